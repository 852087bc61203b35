// Small helpers to build elements. Text goes in as text nodes only, so what a model or a server says is never markup.

/** An element with properties and children; a child that is a string becomes a text node. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A share of 1 as a percentage that never rounds to certain or to never. */
export function percent(share) {
  if (share > 0 && share < 0.01) return "<1%";
  if (share > 0.99 && share < 1) return ">99%";
  return `${Math.round(100 * share)}%`;
}

/** Tells an error in words, with a button to try again. */
export function tellProblem(element, error, retry) {
  const button = make("button", { type: "button", textContent: "Try again" });
  button.addEventListener("click", retry);
  element.replaceChildren(make("strong", { textContent: error.title ?? "The page met an error" }),
    make("span", { textContent: error.advice ?? error.message }), button);
  element.hidden = false;
}

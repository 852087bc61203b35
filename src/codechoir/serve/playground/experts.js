// How experts are told apart: each has two letters, a colour and a kind of underline, so that colour is never the only sign.

const NUM_COLOURS = 8;
const NUM_LINES = 4;

/** Two letters for each name, no two the same where letters suffice: java Ja, javascript Jv. */
export function initials(names) {
  const taken = new Set();
  const chosen = new Map();
  for (const name of names) {
    const [first, ...rest] = [...name];
    const pairs = [first.toUpperCase() + (rest[0] ?? ""), ...rest.map((letter) => first.toUpperCase() + letter)];
    const pair = pairs.find((candidate) => !taken.has(candidate)) ?? pairs[0];
    taken.add(pair);
    chosen.set(name, pair);
  }
  return chosen;
}

/** A model's experts and their signs, in the model's own order. */
export class Experts {
  constructor(names) {
    this.names = names;
    this.initials = initials(names);
  }

  /** The classes that give an element the expert's colour and line. */
  classes(name) {
    const index = this.names.indexOf(name);
    if (index < 0) return [];
    const line = (index + Math.floor(index / NUM_LINES)) % NUM_LINES; // colours that look alike get different lines
    return [`colour-${index % NUM_COLOURS}`, `line-${line}`];
  }

  /** The letters in the expert's colour and line. */
  badge(name) {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.classList.add(...this.classes(name));
    badge.textContent = this.initials.get(name) ?? "–";
    badge.setAttribute("aria-hidden", "true"); // its name stands beside it
    return badge;
  }
}

/** The expert that most layers chose, or "" where none is told. */
export function majority(experts) {
  const counts = new Map();
  for (const name of experts) counts.set(name, (counts.get(name) ?? 0) + 1);
  let best = "";
  for (const [name, count] of counts) if (count > (counts.get(best) ?? 0)) best = name;
  return best;
}

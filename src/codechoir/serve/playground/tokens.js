// A completion, token by token: each is an element of its expert's colour, and tells its experts layer by layer.

import { make } from "./dom.js";
import { majority } from "./experts.js";

const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·");

/** Text and tokens that arrive apart, as spans of text with their tokens. */
export class Aligner {
  constructor() {
    this.pending = ""; // text whose tokens are not all known to be told
    this.queue = [];
    this.begun = false;
  }

  /** Drops what the first tokens repeat of the prompt's end, which was tokenised anew with what follows it. */
  #dropHealed() {
    const spelt = this.queue.map((token) => token.text).join("");
    let head = spelt.length - this.pending.length;
    if (head <= 0 || !spelt.endsWith(this.pending)) return false;
    while (head >= this.queue[0].text.length) head -= this.queue.shift().text.length;
    this.queue[0] = { ...this.queue[0], text: this.queue[0].text.slice(head) };
    return true;
  }

  /**
   * Takes a chunk; gives the spans that it settles, [{text, tokens}]. A chunk's text may lag its tokens, where it may yet
   * begin a stop string or a character is half there. Where the two do not spell the same, they make one span together.
   */
  add(text, tokens, last = false) {
    this.pending += text;
    this.queue.push(...tokens);
    const spans = [];
    const settle = (settled, length) => {
      spans.push({ text: this.pending.slice(0, length), tokens: settled });
      this.pending = this.pending.slice(length);
      this.begun = true;
    };
    while (this.pending && this.queue.length) {
      const [token] = this.queue;
      if (!token.text) this.queue.shift();
      else if (this.pending.startsWith(token.text)) settle([this.queue.shift()], token.text.length);
      else if (!last && token.text.startsWith(this.pending)) break;
      else if (this.begun || !this.#dropHealed()) settle(this.queue.splice(0), this.pending.length);
    }
    if (this.pending && !this.queue.length) settle([], this.pending.length);
    return spans;
  }
}

export class TokenView {
  /** Draws into `root`, which it empties. `keys`: {leave, accept}, called from the keyboard. */
  constructor(root, experts, card, keys) {
    Object.assign(this, { root, experts, card, keys, text: "", aligner: new Aligner(), told: new Map() });
    this.tail = document.createTextNode("");
    root.replaceChildren(this.tail);
    this.listening = new AbortController();
    const listen = (kind, listener) => root.addEventListener(kind, listener, { signal: this.listening.signal });
    listen("pointerover", ({ target }) => this.#show(target));
    listen("pointerout", () => this.#show(document.activeElement));
    listen("focusin", ({ target }) => this.#show(target));
    listen("focusout", () => card.hide());
    listen("click", ({ target }) => this.told.has(target) && this.#focus(target));
    listen("keydown", (event) => this.#handle(event));
  }

  close() {
    this.listening.abort();
    this.card.hide();
  }

  add(text, tokens) {
    this.text += text;
    this.#draw(this.aligner.add(text, tokens));
  }

  /** No more comes. `expert` made the tokens whose experts are not told. */
  finish(expert) {
    this.#draw(this.aligner.add("", [], true));
    for (const [span, layers] of this.told) if (!layers.length && expert) this.#sign(span, [expert]);
  }

  /** The share of the decisions that each expert made so far. */
  shares() {
    const counts = new Map();
    let total = 0;
    for (const name of [...this.told.values()].flat()) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
      total += 1;
    }
    return Object.fromEntries([...counts].map(([name, count]) => [name, count / total]));
  }

  /** Puts the focus on the first token. False where there is none. */
  inspect() {
    const [first] = this.told.keys();
    if (first) this.#focus(first);
    return Boolean(first);
  }

  #draw(spans) {
    for (const { text, tokens } of spans) {
      const span = make("span", { className: "token", textContent: text, tabIndex: -1 });
      span.classList.toggle("blank", !text.trim());
      span.setAttribute("role", "option");
      span.setAttribute("aria-selected", "false");
      span.setAttribute("aria-describedby", "token-card");
      this.#sign(span, tokens.flatMap((token) => token.experts ?? []));
      this.tail.before(span);
    }
    this.tail.data = this.aligner.pending;
  }

  #sign(span, layers) {
    this.told.set(span, layers);
    const expert = majority(layers);
    span.dataset.expert = expert;
    span.classList.add(...this.experts.classes(expert));
    span.setAttribute("aria-label", `${visible(span.textContent)} ${expert}`);
  }

  #focus(span) {
    this.root.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    span.setAttribute("aria-selected", "true");
    span.focus();
  }

  #show(target) {
    if (this.told.has(target)) this.card.show(target, this.experts, this.told.get(target));
    else this.card.hide();
  }

  #handle(event) {
    const spans = [...this.told.keys()];
    const at = spans.indexOf(event.target);
    const last = spans.length - 1;
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || at < 0) return;
    if (next !== undefined) this.#focus(spans[Math.min(Math.max(next, 0), last)]);
    else if (event.key === "Escape") this.keys.leave();
    else if (event.key === "Enter") this.keys.accept();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** The card beside a token: its expert, and each layer's. */
export class TokenCard {
  constructor(element) {
    this.element = element;
  }

  hide() {
    this.element.hidden = true;
  }

  show(span, experts, layers) {
    const expert = majority(layers);
    const num = layers.filter((name) => name === expert).length;
    const share = layers.length > 1 ? ` in ${num} of ${layers.length} layers` : "";
    this.element.replaceChildren(make("code", { textContent: visible(span.textContent) }),
      expert ? make("p", {}, experts.badge(expert), make("strong", { textContent: expert }), share)
        : make("p", { textContent: "Its expert is not told." }));
    if (layers.length > 1) {
      this.element.append(make("ol", {}, ...layers.map((name, index) => {
        const item = make("li", { title: name }, make("span", { textContent: index + 1 }), experts.badge(name));
        item.append(make("span", { className: "unseen", textContent: name }));
        return item;
      })));
    }
    this.element.hidden = false;
    this.#place(span);
  }

  #place(span) {
    const [rect] = span.getClientRects();
    if (!rect) return this.hide();
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = Math.max(8, Math.min(rect.left, clientWidth - width - 8));
    const below = rect.bottom + 8;
    const top = below + height <= clientHeight ? below : Math.max(8, rect.top - height - 8);
    this.element.style.left = `${left}px`;
    this.element.style.top = `${top}px`;
  }
}

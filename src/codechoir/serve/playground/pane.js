// One model and route: chosen here, asked here, and what it told of its experts. Where its tokens are drawn is the page's choice.

import { ApiError, complete } from "./api.js";
import { make, percent, tellProblem } from "./dom.js";
import { Experts } from "./experts.js";
import { TokenView } from "./tokens.js";

const ROUTES = { prompt: ["Auto", "by the prompt's language"], token: ["Token", "each token to its own"], "": ["Dense", "no experts"] };
const PROMISES = {
  prompt: "The language of the code before the cursor chooses the expert.",
  token: "Each token goes to its own expert, layer by layer.",
  "": "A dense model: it has no experts.",
};

let numPanes = 0;

export class Pane {
  /** `page`: {card, changed, rerouted, leave, accept, retry}, the last three given this pane. */
  constructor(element, title, models, page) {
    numPanes += 1;
    Object.assign(this, { element, models, page, group: `route-${numPanes}`, state: "idle", view: null, stopper: null });
    this.find = (selector) => element.querySelector(selector);
    this.output = this.find(".output");
    this.acceptButton = this.find(".accept");
    this.rename(title);
    const select = this.find("select");
    select.append(...models.map((model) => make("option", { value: model.name, textContent: model.name })));
    this.find(".model").hidden = models.length < 2;
    select.addEventListener("change", () => {
      const { routing } = this.route;
      this.choose(models[select.selectedIndex], routing);
      page.rerouted(this);
    });
    this.acceptButton.addEventListener("click", () => page.accept(this));
    this.choose(models[0]);
  }

  get busy() { return this.state === "waiting" || this.state === "writing"; }

  rename(title) {
    this.find("h2").textContent = title;
    this.element.setAttribute("aria-label", title);
  }

  /** Takes a model, and of its routes the one of this routing, or else the first. */
  choose(model, routing) {
    this.model = model;
    this.experts = new Experts(model.experts);
    this.route = model.routes.find((route) => route.routing === routing) ?? model.routes[0];
    this.find("select").value = model.name;
    const rows = model.routes.map((route) => this.#row(route));
    this.find(".routes").replaceChildren(this.find("legend"), ...rows);
    this.#promise();
  }

  /** Goes to the route `by` places further down. */
  step(by) {
    const { routes } = this.model;
    const at = (routes.indexOf(this.route) + by + routes.length) % routes.length;
    this.find(`input[value="${at}"]`).click();
  }

  #row(route) {
    const routing = route.routing ?? "";
    const isExpert = this.model.experts.includes(routing);
    const radio = make("input", { type: "radio", name: this.group, value: this.model.routes.indexOf(route) });
    radio.checked = route === this.route;
    radio.addEventListener("change", () => {
      this.route = route;
      if (!this.busy) this.#promise();
      this.page.rerouted(this);
    });
    const row = make("label", { className: "route" }, radio);
    if (isExpert) {
      const bar = make("span", { className: "bar" }, make("span", {}));
      bar.classList.add(...this.experts.classes(routing));
      bar.setAttribute("aria-hidden", "true");
      row.append(this.experts.badge(routing), make("span", { className: "name", textContent: routing }), bar,
        make("span", { className: "share" }));
      row.dataset.expert = routing;
    } else {
      const [name, meaning] = ROUTES[routing] ?? [routing, ""];
      row.append(make("span", { className: "name", textContent: name }), make("span", { className: "meaning", textContent: meaning }));
    }
    return row;
  }

  /** Before an answer: what the route will do. */
  #promise() {
    const routing = this.route.routing ?? "";
    this.find(".verdict").textContent = PROMISES[routing] ?? `Always the ${routing} expert.`;
    this.find(".figures").textContent = "";
    this.#bars({});
  }

  #bars(shares, chosen = null) {
    for (const row of this.element.querySelectorAll(".route[data-expert]")) {
      const share = shares[row.dataset.expert];
      row.querySelector(".bar span").style.width = `${100 * (share ?? 0)}%`;
      row.querySelector(".share").textContent = share === undefined ? "" : percent(share);
      row.classList.toggle("chosen", row.dataset.expert === chosen);
    }
  }

  #verdict(route) {
    if (!route?.expert) return;
    const why = {
      prompt: ` chosen with probability ${percent(route.probability ?? 0)}`,
      token: ` made ${percent(route.probability ?? 0)} of the tokens' choices`,
      path: " chosen by the file's name",
    }[route.source] ?? ", as you chose";
    this.find(".verdict").replaceChildren(this.experts.badge(route.expert), make("strong", { textContent: route.expert }), why);
    const told = Object.keys(route.probabilities ?? {}).length ? route.probabilities : route.shares;
    this.#bars(told ?? {}, route.expert);
  }

  /** The API's request for this place in the code. */
  request({ before, after, path }, settings) {
    const request = { model: this.route.id, prompt: before };
    if (after.trim() && this.model.infills) request.suffix = after;
    Object.assign(request, settings, { stream: true, stream_options: { include_usage: true } });
    if (path && this.route.routing === "prompt") request.x_path = path;
    if (this.model.traces) request.x_trace = true;
    return request;
  }

  /** Asks, and draws the answer into `root` as it comes. Never raises: an error is told in the pane. */
  async run(request, root) {
    this.stop();
    this.view?.close();
    const stopper = new AbortController();
    this.stopper = stopper;
    this.view = new TokenView(root, this.experts, this.page.card, {
      leave: () => this.page.leave(), accept: () => this.page.accept(this),
    });
    this.find(".problem").hidden = true;
    this.#promise();
    this.#enter("waiting");
    const answer = { start: performance.now(), num_tokens: 0, route: null, finish: null };
    try {
      for await (const chunk of complete(request, stopper.signal)) {
        if (stopper.signal.aborted) return; // another run draws there
        this.#receive(chunk, answer);
      }
      this.#end("done", answer, request);
    } catch (error) {
      if (this.stopper !== stopper) return; // stopped for another run
      this.#end(error.name === "AbortError" ? "stopped" : "failed", answer, request);
      if (error.name !== "AbortError") this.#fail(error);
    }
  }

  #receive(chunk, answer) {
    if (chunk.usage) answer.num_tokens = chunk.usage.completion_tokens;
    const [choice] = chunk.choices;
    if (!choice) return;
    const tokens = choice.x_tokens ?? [];
    answer.num_tokens += tokens.length || (choice.text ? 1 : 0);
    answer.route = choice.x_route ?? chunk.x_route ?? answer.route;
    answer.finish = choice.finish_reason ?? answer.finish;
    this.view.add(choice.text ?? "", tokens);
    if (this.route.routing === "token") this.#bars(this.view.shares());
    this.#verdict(answer.route);
    this.#enter("writing");
  }

  #end(state, answer, request) {
    this.stopper = null;
    this.view.finish(answer.route?.expert);
    const seconds = (performance.now() - answer.start) / 1000;
    const end = { length: `reached the limit of ${request.max_tokens}`, stop: "ended by itself" }[answer.finish] ?? "stopped";
    const rate = `${(answer.num_tokens / seconds).toFixed(answer.num_tokens < 10 * seconds ? 1 : 0)} tokens/s`;
    if (state !== "failed") this.find(".figures").textContent = `${answer.num_tokens} tokens, ${end}, ${rate}`;
    this.#enter(state);
  }

  #fail(error) {
    if (!(error instanceof ApiError)) console.error(error);
    tellProblem(this.find(".problem"), error, () => this.page.retry(this));
    this.output.hidden ||= !this.view.text;
    this.page.failed(error);
  }

  #enter(state) {
    this.state = state;
    this.element.setAttribute("aria-busy", String(this.busy));
    this.view?.root.classList.toggle("writing", this.busy);
    this.page.changed(this);
  }

  /** Stops the answer; what came of it stays. */
  stop() {
    this.stopper?.abort();
  }

  /** Forgets the answer. */
  clear() {
    const { stopper } = this;
    this.stopper = null; // an answer that is stopped hereby is no longer ours to draw
    stopper?.abort();
    this.view?.close();
    this.view?.root.classList.remove("writing");
    this.view?.root.replaceChildren();
    this.view = null;
    this.output.hidden = true;
    this.acceptButton.hidden = true;
    this.#enter("idle");
  }
}

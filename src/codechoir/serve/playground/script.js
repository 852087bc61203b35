// The playground: one editor, one or two panes that complete its code, and the keys.

import { asCurl, key, listModels } from "./api.js";
import { tellProblem } from "./dom.js";
import { Editor } from "./editor.js";
import { Pane } from "./pane.js";
import { Settings, keepTheme } from "./settings.js";
import { TokenCard } from "./tokens.js";

const DRAFT = "codechoir.draft";
const byId = (id) => document.getElementById(id);

const editor = new Editor(byId("editor"));
const settings = new Settings(byId("settings"));
const card = new TokenCard(byId("token-card"));
let models = [];
let panes = []; // one, or two once they have been compared
let comparing = false;
let place = null; // the code that the answers in sight continue: {before, after, path}
let afterKey = start; // what the key is asked for

const code = () => editor.code;
const here = () => ({
  before: editor.text.slice(0, editor.cursor), after: editor.text.slice(editor.cursor), path: byId("path").value.trim(),
});
const shown = () => (comparing ? panes : panes.slice(0, 1));
const ghost = () => editor.ghostAt !== null;

/** Says in the status line; `unseen` is for screen readers. The same is not said twice. */
function tell(text, unseen = "") {
  if (byId("status").textContent === text + unseen) return;
  byId("status").replaceChildren(text, Object.assign(document.createElement("span"), { className: "unseen", textContent: unseen }));
}

function failed(error) {
  if (error.status !== 401 && error.status !== 403) return;
  byId("key-form").hidden = false;
  byId("key").focus();
}

const page = {
  card,
  changed,
  failed(error) {
    afterKey = run;
    failed(error);
  },
  rerouted: (pane) => { if (place && pane.view) ask(pane); },
  leave: () => code().focus(),
  accept,
  retry: (pane) => (place ? ask(pane) : run()),
};

function addPane(title) {
  const { content } = byId("pane-template");
  const element = content.cloneNode(true).firstElementChild;
  byId("panes").append(element);
  const pane = new Pane(element, title, models, page);
  panes.push(pane);
  return pane;
}

async function start() {
  byId("problem").hidden = true;
  try {
    models = await listModels();
  } catch (error) {
    afterKey = start;
    tellProblem(byId("problem"), error, start);
    return failed(error);
  }
  if (!panes.length) addPane("Route");
  tell("");
  describePlace();
  return code().focus();
}

function run() {
  if (!panes.length || !settings.valid()) return;
  const at = here();
  if (!at.before && !panes[0].model.infills) return tell("Write some code first; the completion goes on from the cursor.");
  clear();
  place = at;
  for (const pane of shown()) ask(pane);
  code().focus();
}

/** Asks a pane to go on from `place`. */
function ask(pane) {
  const request = pane.request(place, settings.read());
  if (!comparing) {
    if (!ghost()) editor.openGhost();
    pane.run(request, editor.ghost);
    return;
  }
  const [before, after] = pane.output.querySelectorAll(".context");
  before.textContent = place.before.split("\n").slice(-3).join("\n");
  after.textContent = place.after.split("\n").slice(0, 2).join("\n");
  pane.output.hidden = false;
  pane.run(request, pane.output.querySelector(".tokens"));
}

/** Forgets all answers. */
function clear() {
  place = null;
  for (const pane of panes) pane.clear();
  if (ghost()) editor.closeGhost();
}

function accept(pane = panes[0]) {
  const text = pane?.view?.text;
  if (!text || !place) return;
  const at = place.before.length;
  clear();
  editor.insert(text, at, at);
  tell("Accepted.");
}

function reject() {
  clear();
  tell("Rejected.");
  code().focus();
}

/** Stops what is being written; where nothing is, rejects it. */
function stopOrReject() {
  if (!shown().some((pane) => pane.busy)) return reject();
  for (const pane of panes) pane.stop();
  return undefined;
}

/** A pane went from one state to another. */
function changed(pane) {
  if (ghost()) editor.follow();
  showButtons();
  if (!place || pane.state === "idle") return;
  const all = shown();
  const texts = all.map((each) => each.view?.text ?? "");
  if (all.some((each) => each.busy)) tell("Writing …");
  else if (all.every((each) => each.state === "failed" && !each.view.text)) {
    tell("No completion.");
    if (ghost()) editor.closeGhost();
  } else if (texts.every((text) => !text)) {
    if (ghost()) editor.closeGhost();
    tell("The model has nothing to add here.");
  } else if (comparing) tell("Alt+J accepts the left one, Alt+K the right one, Escape rejects both.");
  else tell("Tab or Enter accepts, Escape rejects.", ` Completion: ${texts[0].slice(0, 400)}`);
}

function showButtons() {
  const busy = shown().some((pane) => pane.busy);
  const written = Boolean(place) && shown().some((pane) => pane.view?.text);
  byId("run").hidden = busy;
  byId("stop-button").hidden = !busy;
  byId("accept").hidden = !written || comparing;
  byId("reject").hidden = !written || busy;
  byId("inspect").hidden = !written;
  for (const pane of panes) {
    pane.acceptButton.hidden = !comparing;
    pane.acceptButton.disabled = !place || !pane.view?.text;
  }
}

function compare(on = !comparing) {
  clear();
  comparing = on;
  byId("compare").setAttribute("aria-pressed", String(on));
  document.body.classList.toggle("comparing", on);
  if (on && panes.length === 1) {
    const second = addPane("Right");
    const [first] = panes;
    second.choose(first.model, first.route.routing);
    second.step(1);
    for (const [pane, letter] of [[first, "J"], [second, "K"]]) {
      pane.acceptButton.append("Accept ", Object.assign(document.createElement("kbd"), { textContent: `Alt ${letter}` }));
    }
  }
  if (!panes.length) return;
  panes[0].rename(on ? "Left" : "Route");
  if (panes[1]) panes[1].element.hidden = !on;
  showButtons();
  tell(on ? "Two panes: choose a route in each, then press Ctrl+Enter." : "");
}

function inspect() {
  const written = shown().filter((pane) => pane.view?.text);
  const at = written.findIndex((pane) => pane.view.root.contains(document.activeElement));
  if (written[(at + 1) % written.length]?.view.inspect()) tell("Left and right arrows go through the tokens, Escape returns.");
}

function openHelp() {
  byId("help").showModal();
}

async function copyCurl() {
  if (!panes.length || !settings.valid()) return;
  const text = asCurl(panes[0].request(here(), settings.read()), document.baseURI, Boolean(key.get()));
  try {
    await navigator.clipboard.writeText(text);
    tell(`Copied the request as a curl command${key.get() ? "; put the key in CODECHOIR_API_KEY" : ""}.`);
  } catch { // no right to the clipboard, or a page that is not of a secure origin
    byId("copy-text").value = text;
    byId("copy").showModal();
    byId("copy-text").select();
  }
}

function describePlace() {
  const { before, after } = here();
  const row = before.split("\n").length;
  const column = before.length - before.lastIndexOf("\n");
  let what = "";
  if (after.trim() && panes.length) what = panes[0].model.infills ? ", fills in" : ", goes on; the code after is not seen";
  byId("place").textContent = `line ${row}, column ${column}${what}`;
}

// Keys of the editor, then those of the whole page.

code().addEventListener("keydown", (event) => {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey && !event.isComposing;
  if (plain && ghost() && panes[0].view?.text && (event.key === "Tab" || event.key === "Enter")) accept();
  else if (plain && place && event.key === "Escape") stopOrReject();
  else if (!editor.handle(event)) return;
  event.preventDefault();
  event.stopPropagation();
});

const inField = (target) => target.matches("textarea, input:not([type=radio]), select");
const KEYS = { KeyC: () => compare(), KeyI: inspect, KeyJ: () => comparing && accept(panes[0]), KeyK: () => comparing && accept(panes[1]) };

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const ctrl = event.ctrlKey || event.metaKey;
  if (ctrl && event.key === "Enter") run();
  else if (ctrl && event.key === "/") openHelp();
  else if (event.key === "?" && !inField(event.target)) openHelp();
  else if (event.altKey && !ctrl && KEYS[event.code]) KEYS[event.code]();
  else if (event.altKey && !ctrl && /^Arrow(Up|Down)$/.test(event.key) && !event.target.matches("select")) {
    panes[0]?.step(event.key === "ArrowUp" ? -1 : 1);
    code().focus();
  } else if (event.key === "Escape" && place) stopOrReject();
  else return;
  event.preventDefault();
});

document.addEventListener("selectionchange", () => {
  const moved = code().selectionStart !== editor.ghostAt || code().selectionEnd !== editor.ghostAt;
  if (ghost() && moved && document.activeElement === code()) reject();
  if (!ghost()) describePlace();
});
code().addEventListener("input", () => {
  if (place) clear(); // the answers no longer fit the code
  sessionStorage.setItem(DRAFT, editor.text);
});

byId("run").addEventListener("click", run);
byId("stop-button").addEventListener("click", () => { stopOrReject(); code().focus(); });
byId("accept").addEventListener("click", () => accept());
byId("reject").addEventListener("click", reject);
byId("inspect").addEventListener("click", inspect);
byId("curl").addEventListener("click", copyCurl);
byId("compare").addEventListener("click", () => compare());
byId("help-button").addEventListener("click", openHelp);
byId("settings-button").addEventListener("click", () => {
  const form = byId("settings");
  form.hidden = !form.hidden;
  byId("settings-button").setAttribute("aria-expanded", String(!form.hidden));
  if (!form.hidden) byId("max_tokens").focus();
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key").value);
  byId("key").value = "";
  byId("key-form").hidden = true;
  afterKey();
});

keepTheme(byId("theme"));
code().value = sessionStorage.getItem(DRAFT) ?? "";
editor.draw();
start();

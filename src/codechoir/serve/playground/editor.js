// The code editor: a textarea for writing, and over it a copy of its text in which a completion stands at the cursor.
// The copy shows all text; the textarea shows the caret and the selection, and keeps the browser's own undo.

/** What one level of indentation is in `text`. */
export function indentUnit(text) {
  if (/^\t/m.test(text)) return "\t";
  const widths = [...text.matchAll(/^( +)\S/gm)].map((match) => match[1].length);
  return widths.length && Math.min(...widths) === 2 ? "  " : "    ";
}

/** The indentation of a line that follows `before`: that of the line, one level more after an opening. */
export function indentAfter(before) {
  const line = before.slice(before.lastIndexOf("\n") + 1);
  const own = /^[ \t]*/.exec(line)[0];
  return /[{([:]\s*$/.test(line) ? own + indentUnit(before) : own;
}

export class Editor {
  constructor(root) {
    this.scroller = root;
    this.code = root.querySelector("textarea");
    this.gutter = root.querySelector(".gutter");
    [this.before, this.ghost, this.after] = root.querySelectorAll(".mirror > span");
    this.ghostAt = null; // where the completion stands, as an offset into the text
    this.leaving = false; // Escape was pressed: the next Tab leaves
    this.code.addEventListener("input", () => this.draw());
    this.draw();
  }

  get text() { return this.code.value; }
  get cursor() { return this.code.selectionEnd; }

  /** Draws the copy anew, and the line numbers with the completion's lines among them. */
  draw() {
    const at = this.ghostAt ?? this.text.length;
    this.before.textContent = this.text.slice(0, at);
    this.after.textContent = `${this.text.slice(at)}\n`; // a last empty line has height only if another follows
    this.number();
  }

  number() {
    const count = (this.text + (this.ghostAt === null ? "" : this.ghost.textContent)).split("\n").length;
    if (this.numbered === count) return;
    this.numbered = count;
    this.gutter.textContent = Array.from({ length: count }, (_, index) => index + 1).join("\n");
  }

  /** Makes room for a completion at the cursor. */
  openGhost() {
    this.code.setSelectionRange(this.cursor, this.cursor);
    this.ghostAt = this.cursor;
    this.ghost.hidden = false;
    this.draw();
  }

  closeGhost() {
    this.ghostAt = null;
    this.ghost.hidden = true;
    this.ghost.replaceChildren();
    this.draw();
  }

  /** Keeps the completion's last line in sight while it grows. */
  follow() {
    this.number();
    const end = this.ghost.getBoundingClientRect().bottom;
    const { bottom } = this.scroller.getBoundingClientRect();
    if (end > bottom - 24) this.scroller.scrollTop += end - bottom + 24;
  }

  /** Puts text in place of a range, as if typed, so that undo takes it back. */
  insert(text, start = this.code.selectionStart, end = this.code.selectionEnd) {
    this.code.focus();
    this.code.setSelectionRange(start, end);
    const done = text ? document.execCommand("insertText", false, text) : start === end || document.execCommand("delete");
    if (!done) { // a browser without the command: no undo, but the text
      this.code.setRangeText(text, start, end, "end");
      this.code.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  /** Indents the selected lines, or at a mere cursor puts in one level. */
  indent() {
    const unit = indentUnit(this.text);
    const { selectionStart: start, selectionEnd: end } = this.code;
    if (!this.text.slice(start, end).includes("\n")) return this.insert(unit);
    return this.#changeLines((line) => (line ? unit + line : line));
  }

  unindent() {
    const width = indentUnit(this.text).length;
    return this.#changeLines((line) => line.replace(new RegExp(`^(\t| {1,${width}})`), ""));
  }

  #changeLines(change) {
    const { selectionStart, selectionEnd } = this.code;
    const start = this.text.lastIndexOf("\n", selectionStart - 1) + 1;
    const next = this.text.indexOf("\n", Math.max(selectionStart, selectionEnd - 1));
    const end = next < 0 ? this.text.length : next;
    const old = this.text.slice(start, end);
    const changed = old.split("\n").map(change).join("\n");
    if (changed === old) return;
    this.insert(changed, start, end);
    if (old.includes("\n")) this.code.setSelectionRange(start, start + changed.length);
    else {
      const cursor = Math.max(start, selectionStart + changed.length - old.length);
      this.code.setSelectionRange(cursor, cursor);
    }
  }

  /** What a code editor's keys do. True where the key was one of them. */
  handle(event) {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === "Tab" && plain && !this.leaving) {
      if (event.shiftKey) this.unindent();
      else this.indent();
    } else if (event.key === "Enter" && plain && !event.shiftKey && !event.isComposing) {
      this.insert(`\n${indentAfter(this.text.slice(0, this.code.selectionStart))}`);
    } else {
      if (event.key !== "Shift") this.leaving = event.key === "Escape";
      return false;
    }
    event.preventDefault();
    return true;
  }
}

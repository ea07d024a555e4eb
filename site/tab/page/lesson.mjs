// The lesson on the left: text, and cells that run in the machine.
import { coloured } from "./ansi.mjs";
import { cellEditor, text } from "./editor.mjs";
import { plainText } from "./machine.mjs";

const COMMAND = /^!?(workshop|steps\/\S+|my\/container\.py|sudo|man)\b/;
// JupyterLab's names for the colours that the guide's tables use.
const FRAME_STYLE = `<style>
  :root { color-scheme: light dark; --jp-border-color2: light-dark(#d5d8de, #353a45);
    --jp-success-color1: light-dark(#1a7a36, #63c97f); --jp-warn-color1: light-dark(#8a5a00, #e6b450); }
  body { margin: 0; font: 13px/1.5 system-ui, sans-serif; color: light-dark(#1d2129, #dfe2e8); }
  pre, code { font: 12px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
</style>`;

// A cell on the page.
export class Cell {
  // about: as tab_lessons.py writes it. lesson: the Lesson it belongs to.
  constructor(about, lesson) {
    this.about = about;
    this.lesson = lesson;
    this.messages = [];
    this.element = document.createElement("div");
    this.element.className = "cell";
    this.element.dataset.id = about.id;
    const side = this.add(this.element, "side");
    this.button(side, "▶", "Run this cell (Shift+Enter)", () => this.run());
    this.button(side, "⏭", "Run all cells above, and this one", () => lesson.runTo(this)).className = "all";
    const body = this.add(this.element, "body");
    if (about.note) this.add(body, "note").textContent = about.note;
    this.editor = cellEditor(this.add(body, "source"), about.code, () => this.run());
    this.output = this.add(body, "output");
  }

  add(parent, name) {
    const element = document.createElement("div");
    element.className = name;
    parent.append(element);
    return element;
  }

  button(parent, label, title, act) {
    const button = document.createElement("button");
    Object.assign(button, { textContent: label, title, onclick: act });
    button.setAttribute("aria-label", title);
    parent.append(button);
    return button;
  }

  show(state) {
    this.element.classList.remove("waits", "runs", "good", "failed");
    if (state) this.element.classList.add(state);
  }

  // Runs the cell. Returns a promise of { done, text, seconds, raised }.
  async run() {
    const start = performance.now();
    this.clear();
    this.show("waits");
    const { done, ended } = await this.lesson.execute(text(this.editor), (m) => this.hear(m), () => this.show("runs"));
    this.show(done ? "good" : "failed");
    if (ended) this.say("The process of the cells ended, or the machine was reset. Its variables are lost: run the cells above again.");
    const raised = this.messages.find((message) => message.error)?.error;
    const seconds = (performance.now() - start) / 1000;
    return { done, raised, seconds, text: plainText(this.messages) };
  }

  clear() {
    this.output.replaceChildren();
    this.messages = [];
    this.last = null;
  }

  say(words) {
    this.add(this.output, "note").textContent = words;
  }

  hear(message) {
    if ("clear" in message) return this.clear();
    const before = this.messages.at(-1);
    this.messages.push(message);
    if (message.stream) {
      // One element for what belongs together, so that colours may span messages.
      const joined = before?.stream === message.stream ? this.joined + message.text : message.text;
      const element = coloured(joined);
      if (before?.stream === message.stream) this.last.replaceWith(element);
      else this.output.append(element);
      [this.last, this.joined] = [element, joined];
      return;
    }
    if (message.error) return this.output.append(coloured(message.traceback.join("\n")));
    const data = message.result ?? message.display;
    if (data) this.output.append(rendered(data));
  }
}

// Returns an element with the best of an output's types.
function rendered(data) {
  for (const type of ["image/svg+xml", "image/png", "image/jpeg"]) {
    if (!data[type]) continue;
    const image = document.createElement("img");
    image.alt = data["text/plain"] ?? "";
    const encoded = type === "image/svg+xml" ? encodeURIComponent(data[type]) : data[type];
    image.src = `data:${type}${type === "image/svg+xml" ? "," : ";base64,"}${encoded}`;
    return image;
  }
  if (!data["text/html"]) return coloured(data["text/plain"] ?? "");
  // What the machine sends must not run scripts in the page.
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-same-origin";
  frame.title = "Output of the cell";
  frame.srcdoc = `<!doctype html>${FRAME_STYLE}${data["text/html"]}`;
  frame.onload = () => {
    const page = frame.contentDocument.documentElement;
    const fit = () => (frame.style.height = `${page.scrollHeight + 2}px`);
    fit();
    frame.contentDocument.addEventListener("toggle", fit, true);
  };
  return frame;
}

// A lesson that is on the page.
export class Lesson {
  // execute(code, listener, onStart): runs a cell in the machine. type(command): types it in the
  // terminal. open(): shows the editor.
  constructor(about, parent, { execute, type, open }) {
    this.name = about.name;
    this.number = parseInt(about.name, 10); // NaN: the appendix
    this.execute = execute;
    this.cells = [];
    parent.replaceChildren();
    for (const cell of about.cells) {
      if (cell.html === undefined) {
        this.cells.push(new Cell(cell, this));
        parent.append(this.cells.at(-1).element);
        continue;
      }
      const element = document.createElement("div");
      element.innerHTML = cell.html;
      parent.append(element);
      for (const code of element.querySelectorAll("code"))
        if (COMMAND.test(code.textContent)) {
          code.classList.add("command");
          code.title = "Click to type this in the terminal";
          code.onclick = () => type(code.textContent.replace(/^!/, "").trimEnd());
        }
      for (const link of element.querySelectorAll("a[data-type]"))
        link.onclick = () => (type(link.dataset.type), false);
      for (const link of element.querySelectorAll("a[data-open]")) link.onclick = () => (open(), false);
    }
    parent.scrollTop = 0;
  }

  // Runs the cells down to one. Stops at one that fails, unless it is meant to.
  async runTo(last) {
    for (const cell of this.cells) {
      const { done, raised } = await cell.run();
      if (cell === last || (!done && !raised)) return;
    }
  }
}

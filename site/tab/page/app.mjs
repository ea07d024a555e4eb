// The page: wires the lesson, the editor, the terminal and the machine together.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { V86 } from "v86";
import { Disk } from "./disk.mjs";
import { fileEditor, setText, text } from "./editor.mjs";
import { Lesson } from "./lesson.mjs";
import { load, LoadError, unzipped, zipped } from "./load.mjs";
import { Machine, MEMORY } from "./machine.mjs";
import { claim, drop, keep, kept } from "./store.mjs";

const { machine: ABOUT, lessons: LESSONS } = CONTENT;
const MINE = "container.py";
const MB = 1e6;
// The emulator compiles the machine's programs while they run, which is not in the saved state. So
// these run in the background while the visitor reads.
const WARM = [
  ...Array(4).fill("python3 -S -c pass"),
  ...Array(3).fill("steps/02_pid/container.py run ps"),
  ...Array(5).fill("steps/07_overlay/container.py run --net none busybox true"),
  ...Array(4).fill("steps/02_pid/breakout.py steps/01_uts/container.py"),
  ...Array(2).fill("steps/07_overlay/container.py run busybox true"),
];

const $ = (id) => document.getElementById(id);
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const page = {
  machine: null,
  state: null, // bytes of the machine's saved state
  lesson: null,
  saved: undefined, // text of my/container.py in the machine
  warm: 0, // how often the warm-up was started
};
// What tests look at.
globalThis.page = Object.assign(page, { times: {}, begin: performance.now(), ready: false });

// ---- the bar

function say(words, part = null) {
  $("status").textContent = words;
  $("status").classList.remove("bad");
  $("progress").hidden = part === null;
  if (part !== null) $("progress").value = part;
}

// Shows what went wrong, and one thing to do about it.
function trouble(title, words, label, act) {
  const dialog = $("trouble");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = words;
  const button = dialog.querySelector("button");
  button.textContent = label;
  button.onclick = () => (dialog.close(), act());
  if (!dialog.open) dialog.showModal();
  say(title);
  $("status").classList.add("bad");
}

const mark = (name) => (page.times[name] ??= (performance.now() - page.begin) / 1000);

// ---- editor and files

const keys = [
  { key: "Mod-s", run: () => (save(), true) },
  { key: "Mod-Enter", run: () => (saveAndRun(), true) },
];
let draft;
const editor = fileEditor($("editor"), keys, () => {
  $("dirty").hidden = text(editor) === (page.saved ?? "");
  clearTimeout(draft);
  draft = setTimeout(keepDraft, 300);
});
page.editor = { get: () => text(editor), set: (words) => setText(editor, words) };

function keepDraft() {
  clearTimeout(draft);
  return keep("draft", text(editor)).catch(() => {});
}

// Takes the machine's my/container.py as the saved text.
function setSaved(words) {
  page.saved = words;
  $("dirty").hidden = text(editor) === (words ?? "");
}

// Writes the editor's text to my/container.py.
async function save() {
  const words = text(editor);
  setSaved(words);
  $("conflict").hidden = true;
  await keepDraft();
  if (!page.ready) return;
  await page.machine.writeFile(MINE, encoder.encode(words));
  await page.machine.sh(`chmod +x my/${MINE}`);
  await look();
}

// Reads my/, and keeps it if it has changed.
async function look() {
  if (!page.ready) return;
  const files = await page.machine.readFiles();
  if (!same(files, page.files)) await keep("files", files).catch(() => {});
  page.files = files;
  const now = files[MINE] && decoder.decode(files[MINE]);
  if (now === page.saved) return;
  const clean = text(editor) === (page.saved ?? "");
  setSaved(now);
  if (now === undefined) return;
  if (clean) setText(editor, now);
  $("conflict").hidden = text(editor) === now;
}

function same(some = {}, others = {}) {
  const equal = (one, two) => one?.length === two?.length && one.every((byte, at) => byte === two[at]);
  const paths = new Set([...Object.keys(some), ...Object.keys(others)]);
  return [...paths].every((path) => equal(some[path], others[path]));
}

// Makes the machine's my/ contain the kept files, and no others.
async function putBack() {
  const files = (await kept("files").catch(() => undefined)) ?? {};
  const directories = Object.keys(files).map((path) => path.split("/").slice(0, -1).join("/"));
  const named = [...new Set(directories)].filter(Boolean).map((path) => `'my/${path}'`);
  if (named.length) await page.machine.sh(`mkdir -p ${named.join(" ")}`);
  for (const path of Object.keys(await page.machine.readFiles()))
    if (!(path in files)) await page.machine.sh(`rm -f 'my/${path}'`);
  for (const [path, bytes] of Object.entries(files)) await page.machine.writeFile(path, bytes);
  if (files[MINE]) await page.machine.sh(`chmod +x my/${MINE}`);
  page.files = files;
  setSaved(files[MINE] && decoder.decode(files[MINE]));
}

function watchFiles() {
  let timer;
  page.machine.onWrite(() => {
    clearTimeout(timer);
    timer = setTimeout(look, 400);
  });
  setInterval(look, 5000); // the emulator does not report that a file was renamed or removed
}

// ---- terminal

// The colours of page.css in the dark: xterm.js's red is hard to read there.
const COLOURS = { red: "#ff8a80", green: "#63c97f", yellow: "#e6b450", blue: "#74b3f5" };
Object.assign(COLOURS, { magenta: "#d29bf0", cyan: "#5cc7d2", white: "#c8ccd4" });
const terminal = new Terminal({
  fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
  fontSize: 13.5,
  scrollback: 5000,
  theme: { background: "#14161a", ...COLOURS },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.open($("terminal"));
page.terminal = terminal;

function resize() {
  fit.fit();
  // Linux takes the rows first, although virtio's specification has the columns first.
  page.machine?.emulator.bus.send("virtio-console0-resize", [terminal.rows, terminal.cols]);
}
new ResizeObserver(resize).observe($("screen"));
// Each message takes one of the guest's few buffers, however short it is, and is lost without one.
// So what is typed quickly goes together.
let typed = "";
terminal.onData((data) => {
  if (!page.ready) return;
  if (!typed) setTimeout(() => (page.machine.send(0, typed), (typed = "")), 20);
  typed += data;
});

// Types a command in the terminal.
function type(command) {
  if (!page.ready) return;
  show("screen");
  page.machine.send(0, `${command}\r`);
  terminal.focus();
}

async function saveAndRun() {
  await save();
  type(`my/${MINE} run ${$("command").value}`);
}

// ---- the machine

async function boot() {
  if (typeof WebAssembly !== "object")
    return trouble(
      "This browser has no WebAssembly",
      "The machine is an emulator in WebAssembly. In some browsers an administrator or a strict mode has switched it off. You can still read the lessons.",
      "Read the lessons",
      () => {},
    );
  try {
    new WebAssembly.Memory({ initial: (MEMORY * 1.1) >> 16 });
  } catch {
    return trouble(
      "There is not enough memory",
      "The machine has 512 MB of memory, and this browser does not give them to one tab. Close other tabs and try again, or use a computer instead of a phone.",
      "Try again",
      boot,
    );
  }
  try {
    const [state, wasm] = await download();
    page.state = state;
    mark("downloaded");
    await start(wasm);
  } catch (error) {
    if (!(error instanceof LoadError)) {
      console.error(error);
      return trouble("The machine does not start", String(error.message ?? error), "Try again", () => location.reload());
    }
    trouble(
      "The download was cut off",
      `${error.message}. Your files are in the browser, nothing of them is lost.`,
      "Try again",
      boot,
    );
  }
}

async function download() {
  const { state, v86 } = ABOUT.sizes;
  const done = { state: 0, v86: 0 };
  const step = (name) => (bytes) => {
    done[name] = bytes;
    const now = done.state + done.v86;
    const all = state + v86;
    say(`Downloading the machine: ${(now / MB).toFixed(1)} of ${(all / MB).toFixed(1)} MB`, now / all);
  };
  say("Downloading the machine", 0);
  const loaded = await Promise.all([
    load("state.js", { progress: step("state") }),
    load("v86.js", { progress: step("v86") }).then(unzipped),
  ]);
  return loaded;
}

async function start(wasm) {
  say("Starting the machine", 1);
  await new Promise((resolve) => setTimeout(resolve)); // shows it
  const disk = new Disk(ABOUT.disk.length * ABOUT.part, ABOUT.part, loadPart);
  const mine = await keptMachine();
  freshCells = mine?.lesson ?? null;
  page.machine = new Machine(V86, {
    wasm_fn: async (imports) => (await WebAssembly.instantiate(wasm, imports)).instance.exports,
    initial_state: { buffer: (mine?.state ?? page.state.slice()).buffer },
    hda: disk,
  });
  page.machine.onConsole(0, (bytes) => terminal.write(bytes));
  await page.machine.started;
  watchFiles();
  await begin();
}

// After a start and after a reset.
async function begin() {
  await page.machine.setClock();
  await putBack();
  page.ready = true;
  for (const id of ["save", "run", "begin", "check", "attack", "restart", "reset", "stop"]) $(id).disabled = false;
  resize();
  page.machine.send(0, "\r");
  mark("ready");
  for (const go of onReady.splice(0)) go();
  warmUp();
}

let waiting = 0;
async function loadPart(index) {
  const name = ABOUT.disk[index];
  if (!name) return new Uint8Array(ABOUT.part);
  let late = false;
  const failed = () => {
    if (!late) waiting++;
    late = true;
    say("A part of the machine's disk does not load. Is the network gone? The machine waits for it.");
    $("status").classList.add("bad");
  };
  const bytes = await unzipped(await load(`disk/${name}.js`, { forever: true, failed }));
  if (late && --waiting === 0) say("Ready");
  return bytes;
}

async function warmUp() {
  const turn = ++page.warm;
  page.warmed = false;
  $("keep").disabled = true;
  for (const [index, command] of WARM.entries()) {
    if (turn !== page.warm) return;
    if (!waiting) say("Ready. Warming up: commands are slow at first", index / WARM.length);
    try {
      await page.machine.sh(`nice -n 19 ${command}`); // the visitor's own commands come first
    } catch {
      return; // the machine was reset
    }
  }
  if (turn !== page.warm) return;
  mark("warm");
  page.warmed = true;
  $("keep").disabled = false;
  say("Ready");
}

// Keeps the whole machine for the next visit: its memory, and what it has written to its disk.
async function keepMachine() {
  if (page.machine.cells.running) return say("A cell runs. Wait for its end, or stop it, and try again.");
  say("Saving the machine");
  const state = await page.machine.emulator.save_state();
  const bytes = await zipped(state);
  try {
    await keep("machine", { build: ABOUT.build, lesson: freshCells, bytes });
    say(`The machine is kept in this browser (${(bytes.length / MB).toFixed(0)} MB). A reload goes on from here.`);
  } catch {
    say(`The browser has no room for the machine (${(bytes.length / MB).toFixed(0)} MB).`);
  }
}

// Returns the machine that was kept: { lesson, state }. One that was built otherwise is of no use,
// because its disk was another one.
async function keptMachine() {
  const mine = await kept("machine").catch(() => undefined);
  if (mine?.build !== ABOUT.build) return undefined;
  return { lesson: mine.lesson, state: await unzipped(mine.bytes) };
}

async function reset() {
  await drop("machine").catch(() => {});
  page.ready = false;
  page.warm++;
  await keepDraft();
  say("Resetting the machine");
  terminal.reset();
  freshCells = null;
  await page.machine.restore(page.state.slice().buffer);
  await begin();
}

// ---- cells

let freshCells = null; // the lesson whose variables the process has
const onReady = []; // what waits for the machine

// Runs a cell of the current lesson. Each lesson starts without the variables of another.
async function execute(code, listener, onStart) {
  if (!page.ready) {
    listener({ stream: "stderr", text: "Waits until the machine is ready.\n" });
    await new Promise((resolve) => onReady.push(resolve));
    listener({ clear: false });
  }
  const { cells } = page.machine;
  if (freshCells && freshCells !== page.lesson.name) cells.renew();
  freshCells = page.lesson.name;
  const done = await cells.run(code, listener, onStart);
  look();
  return done;
}

async function restartCells() {
  freshCells = null;
  say("Restarting the process of the cells");
  page.machine.cells.stop();
  const ready = page.machine.cells.message((message) => "ready" in message);
  await page.machine.sh("echo 1 >/sys/fs/cgroup/cells/cgroup.kill");
  await ready;
  say("Ready");
}

// ---- the lessons

function choose() {
  const name = decodeURIComponent(location.hash.slice(1));
  const about = LESSONS.find((lesson) => lesson.name === name) ?? LESSONS[0];
  if (page.lesson?.name === about.name) return;
  page.lesson = new Lesson(about, $("lesson"), { execute, type, open: () => show("code") });
  const { number } = page.lesson;
  const two = String(number).padStart(2, "0");
  $("choice").value = about.name;
  $("check").textContent = `Check step ${two}`;
  $("attack").textContent = `Break in ${two}`;
  $("check").hidden = $("begin").hidden = isNaN(number); // the appendix has no step
  $("attack").hidden = !number;
  $("begin").textContent = `Start from step ${String(Math.max(0, number - 1)).padStart(2, "0")}`;
  $("command").value = number < 3 ? "sh" : "busybox sh";
  keep("lesson", about.name).catch(() => {});
}

// On a narrow screen: shows one of the parts.
function show(part) {
  document.body.dataset.part = part;
  for (const button of document.querySelectorAll("nav button"))
    button.setAttribute("aria-pressed", String(button.dataset.show === part));
  if (part === "screen") resize();
}

function wire() {
  if (ABOUT.home) $("home").href = ABOUT.home;
  $("home").hidden = !ABOUT.home;
  for (const { name, title } of LESSONS) $("choice").add(new Option(new DOMParser().parseFromString(title, "text/html").body.textContent, name));
  $("choice").onchange = () => (location.hash = $("choice").value);
  addEventListener("hashchange", choose);
  for (const button of document.querySelectorAll("nav button")) button.onclick = () => show(button.dataset.show);
  $("save").onclick = save;
  $("run").onclick = saveAndRun;
  $("command").onkeydown = (event) => event.key === "Enter" && saveAndRun();
  $("check").onclick = async () => (await save(), type(`workshop check ${page.lesson.number} --alone`));
  $("attack").onclick = async () => (await save(), type(`workshop breakout ${page.lesson.number}`));
  $("begin").onclick = async () => {
    const before = `${String(Math.max(0, page.lesson.number - 1)).padStart(2, "0")}`;
    const { output } = await page.machine.sh(`cat steps/${before}_*/container.py`);
    if (text(editor).trim() && text(editor) !== output && !confirm("Replace the text in the editor?")) return;
    setText(editor, output);
    await save();
  };
  $("take").onclick = () => (setText(editor, page.saved ?? ""), ($("conflict").hidden = true));
  $("mine").onclick = () => ($("conflict").hidden = true);
  $("keep").onclick = keepMachine;
  $("reset").onclick = reset;
  $("restart").onclick = restartCells;
  $("stop").onclick = () => page.machine.cells.stop();
  $("download").onclick = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text(editor)], { type: "text/x-python" }));
    link.download = MINE;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  $("upload").onchange = async (event) => {
    const [file] = event.target.files;
    if (file) setText(editor, await file.text()), await save();
    event.target.value = "";
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) keepDraft();
    else if (page.ready) page.machine.setClock().catch(() => {});
  });
}

function lost() {
  page.ready = false;
  page.machine?.emulator.stop();
  trouble(
    "The machine runs in another tab now",
    "Two tabs would write the same files. What you have written is kept.",
    "Use it here",
    () => location.reload(),
  );
}

async function main() {
  wire();
  show("lesson");
  if (!location.hash) {
    const asked = new URLSearchParams(location.search).get("lesson"); // the site's links
    const name = asked ?? (await kept("lesson").catch(() => undefined));
    if (name) history.replaceState(null, "", `#${name}`);
  }
  choose();
  const draft = await kept("draft").catch(() => undefined);
  if (draft) setText(editor, draft);
  if (await claim(false, lost)) return boot();
  trouble(
    "The machine already runs in another tab",
    "Two tabs would write the same files. Go on in the other tab, or use the machine here, which ends it there.",
    "Use it here",
    async () => (await claim(true, lost), boot()),
  );
}

page.run = (index) => page.lesson.cells[index].run();
main();

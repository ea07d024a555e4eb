// The machine, in a page and under Node: its three lines, its files, and its state.
// guest/init serves the lines in the machine.

const MEGABYTE = 1 << 20;
export const MEMORY = 512 * MEGABYTE;
// v86 drops input when the guest has no free buffer, of which each takes this many bytes.
const PIECE = 4096;
const encoder = new TextEncoder();

export class Machine {
  // V86: its constructor. options: its options about wasm, disk, state or kernel.
  constructor(V86, options) {
    this.emulator = new V86({
      memory_size: MEMORY,
      vga_memory_size: 2 * MEGABYTE,
      filesystem: {},
      net_device: { type: "virtio" },
      virtio_console: true,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      autostart: true,
      ...options,
    });
    this.started = new Promise((resolve) => {
      this.emulator.add_listener("emulator-started", resolve);
    });
    this.shell = new Shell(this);
    this.cells = new Cells(this);
  }

  // Calls listener(bytes) with the output of a virtio console.
  onConsole(number, listener) {
    this.emulator.add_listener(`virtio-console${number}-output-bytes`, (bytes) =>
      listener(new Uint8Array(bytes)),
    );
  }

  // Sends a string or bytes to a virtio console: 0 is the terminal, 1 has the cells.
  send(number, data) {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    for (let at = 0; at < bytes.length; at += PIECE)
      this.emulator.bus.send(
        `virtio-console${number}-input-bytes`,
        bytes.slice(at, at + PIECE),
      );
  }

  // Returns the output and the status of a command of the page's own.
  sh(command, seconds) {
    return this.shell.run(command, seconds);
  }

  // Sets the clock, which stood still while the state was saved or the tab was frozen.
  setClock() {
    return this.sh(`date -s @${Math.round(Date.now() / 1000)} >/dev/null`);
  }

  // Writes a file of my/. Its directory must exist.
  writeFile(path, bytes) {
    return this.emulator.create_file(path, bytes);
  }

  // Returns the files of my/: { path: bytes }.
  async readFiles(directory = "") {
    const { fs9p } = this.emulator;
    const files = {};
    for (const name of fs9p.read_dir(directory || "/") ?? []) {
      const path = directory ? `${directory}/${name}` : name;
      if (fs9p.IsDirectory(fs9p.SearchPath(path).id))
        Object.assign(files, await this.readFiles(path));
      else files[path] = ((await fs9p.read_file(path)) ?? new Uint8Array()).slice();
    }
    return files;
  }

  // Calls listener() whenever the machine has written a file of my/.
  onWrite(listener) {
    this.emulator.add_listener("9p-write-end", listener);
  }

  // Goes back to a saved state.
  async restore(state) {
    this.shell.forget();
    this.cells.forget();
    await this.emulator.restore_state(state);
  }
}

// Commands over the serial port, one after the other.
class Shell {
  constructor(machine) {
    this.machine = machine;
    this.last = Promise.resolve();
    this.forget();
    this.count = 0;
    const decoder = new TextDecoder();
    machine.emulator.add_listener("serial0-output-byte", (byte) => {
      this.output += decoder.decode(new Uint8Array([byte]), { stream: true });
      if (byte === 10) this.look();
    });
  }

  // Gives up the command that runs, when the machine is reset.
  forget() {
    this.output = "";
    this.waiting?.reject(new Error("the machine was reset"));
    this.waiting = null;
  }

  run(command, seconds = 600) {
    const result = this.last.then(() => this.start(command, seconds));
    this.last = result.catch(() => {});
    return result;
  }

  start(command, seconds) {
    const mark = `@${++this.count}@${Math.random().toString(36).slice(2, 8)}`;
    this.output = "";
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting = null;
        reject(new Error(`no end after ${seconds} s: ${command}\n${this.output}`));
      }, seconds * 1000);
      const end = (act) => (value) => {
        clearTimeout(timer);
        act(value);
      };
      this.waiting = { mark, resolve: end(resolve), reject: end(reject) };
      const line = `( ${command}\n) </dev/null 2>&1; echo "${mark} $?"\n`;
      this.machine.emulator.serial0_send(line);
    });
  }

  look() {
    if (!this.waiting) return;
    const at = this.output.indexOf(`${this.waiting.mark} `);
    if (at < 0) return;
    const status = parseInt(this.output.slice(at + this.waiting.mark.length), 10);
    const { resolve } = this.waiting;
    this.waiting = null;
    resolve({ status, output: this.output.slice(0, at).replaceAll("\r\n", "\n") });
  }
}

// The cells: one runs, and others wait. guest/cells.py describes the messages.
class Cells {
  constructor(machine) {
    this.machine = machine;
    this.queue = [];
    this.running = null;
    this.count = 0;
    this.rest = "";
    this.listeners = [];
    const decoder = new TextDecoder();
    machine.onConsole(1, (bytes) => {
      const lines = (this.rest + decoder.decode(bytes, { stream: true })).split("\n");
      this.rest = lines.pop();
      for (const line of lines) this.hear(line);
    });
  }

  // Returns a promise of the message "done" of a cell, or of { done: false, ended: true } if its
  // process ended or the machine was reset. Calls listener(message) for each output, and
  // onStart() when the cell begins to run.
  run(code, listener = () => {}, onStart = () => {}) {
    return new Promise((resolve) => {
      this.queue.push({ id: `c${++this.count}`, code, listener, onStart, resolve });
      this.next();
    });
  }

  next() {
    if (this.running || !this.queue.length) return;
    this.running = this.queue.shift();
    this.running.onStart();
    const { id, code } = this.running;
    this.machine.send(1, `${JSON.stringify({ id, code })}\n`);
  }

  hear(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      return; // the first half was sent before a reset
    }
    for (const listener of this.listeners) listener(message);
    if ("ended" in message) this.forget();
    if (this.running?.id !== message.id) return;
    if (!("done" in message)) return this.running.listener(message);
    const { resolve } = this.running;
    this.running = null;
    resolve(message);
    this.next();
  }

  // Ends what the cells of a lesson have started, and forgets their variables.
  renew() {
    this.run("%unload_ext workshop");
    return this.run("import os; os.chdir('/workshop/notebooks'); get_ipython().reset()");
  }

  // Interrupts the cell that runs, and forgets the ones that wait.
  stop() {
    for (const cell of this.queue.splice(0)) cell.resolve({ done: false, ended: true });
    if (this.running) this.machine.send(1, new Uint8Array([3]));
  }

  // Forgets all cells, because their process is gone.
  forget() {
    this.rest = "";
    const cells = [this.running, ...this.queue.splice(0)].filter(Boolean);
    this.running = null;
    for (const cell of cells) cell.resolve({ done: false, ended: true });
  }

  // Returns a promise of the next message that the test accepts.
  message(accepts) {
    return new Promise((resolve) => {
      const listener = (message) => {
        if (!accepts(message)) return;
        this.listeners.splice(this.listeners.indexOf(listener), 1);
        resolve(message);
      };
      this.listeners.push(listener);
    });
  }
}

// Returns the text of a cell's messages as a reader sees it, without colours. tests/notebook_cells.py
// does the same with a notebook's outputs.
export function plainText(messages) {
  const parts = messages.map((message) => {
    if (message.stream) return message.text;
    if (message.error)
      return [`${message.error}: ${message.value}`, ...message.traceback].join("");
    return (message.result ?? message.display)?.["text/plain"] ?? "";
  });
  return parts
    .join("")
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "")
    .replaceAll("\r\n", "\n");
}

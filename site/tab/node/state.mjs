// Boots the machine, warms it up, and saves its state: state.mjs MODULES DISK FOLDER
//
// What has run once is in the machine's memory, and need not be loaded from the disk.
import fs from "node:fs";
import path from "node:path";
import { image, since, start } from "./machine.mjs";

const [modules, directory, folder] = process.argv.slice(2);
const begin = performance.now();
const say = (text) => console.log(`    ${since(begin).toFixed(0).padStart(3)} s  ${text}`);

// No mitigations: what they protect is an emulator. nokaslr: the same state from the same disk.
const COMMAND_LINE = `console=ttyS0 quiet mitigations=off init_on_alloc=0 apparmor=0 audit=0
  nokaslr norandmaps tsc=reliable random.trust_cpu=on`.replace(/\s+/g, " ");
const WARM = [
  "steps/network.sh on",
  "for step in 00_run 01_uts 02_pid; do steps/$step/container.py run true; done",
  "for step in 03_mnt 04_net 05_user 06_cgroup 07_overlay; do steps/$step/container.py run busybox true; done",
  "steps/07_overlay/container.py run --memory 64M debian true",
  "for n in 01_uts 02_pid 03_mnt 05_user; do steps/$n/breakout.py steps/$n/container.py; done",
  "cp steps/01_uts/container.py my/; workshop check 1 --only hostname",
  "workshop breakout 1",
  "rm -rf my/container.py my/.workshop",
];
const CELLS = [
  'import os, sys\n%load_ext workshop\nimport linux',
  "!hostname",
  "%%box warm --ns uts\nlinux.sethostname('warm')\n!hostname",
  "%%box warm\n1/0",
  "%boxes end",
  "1/0",
  "!steps/02_pid/container.py run ps",
  "%diff 1",
  "%inspect",
  "!workshop --help",
  "%unload_ext workshop",
  "import os, gc; os.chdir('/workshop/notebooks'); get_ipython().reset(); import gc; gc.collect()",
  "get_ipython().reset()",
];
// Fills the free memory with zeros, which take no space in the state, and gives it back.
const ZERO = `python3 -S -c "
import mmap
with open('/proc/meminfo') as file:
    free = next(int(line.split()[1]) for line in file if line.startswith('MemFree'))
size = (free << 10) - (6 << 20)
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, size, 4096):
    memory[page] = 0
"`;

const machine = await start(modules, directory, {
  bios: image(directory, "bios.bin"),
  vga_bios: image(directory, "vgabios.bin"),
  bzimage: image(directory, "vmlinuz"),
  initrd: image(directory, "initrd"),
  cmdline: COMMAND_LINE,
});
let terminal = "";
machine.onConsole(0, (bytes) => (terminal += Buffer.from(bytes).toString()));
const ready = machine.cells.message((message) => "ready" in message);
let boot = "";
await new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`no boot:\n${boot}`)), 900_000);
  machine.emulator.add_listener("serial0-output-byte", (byte) => {
    boot += String.fromCharCode(byte);
    if (!boot.endsWith("ready\r\n")) return;
    clearTimeout(timer);
    resolve();
  });
});
say("booted");
await machine.setClock();
for (const command of WARM) {
  const { status, output } = await machine.sh(command, 3600);
  say(`${status} ${command}`);
  if (process.env.VERBOSE || status > 1) console.log(output);
}
await ready;
say("cells");
for (const code of CELLS) {
  const messages = [];
  await machine.cells.run(code, (message) => messages.push(message));
  say(code.split("\n")[0].slice(0, 60));
  if (process.env.VERBOSE) console.log(JSON.stringify(messages).slice(0, 800));
}
await machine.sh(`rm -rf my/.workshop my/container.py; sync; ${ZERO}`);
machine.send(0, "clear\r");
await new Promise((resolve) => setTimeout(resolve, 3000));
const state = new Uint8Array(await machine.emulator.save_state());
fs.writeFileSync(path.join(folder, "state"), state);
say(`saved ${(state.length / 1e6).toFixed(0)} MB`);
process.exit(0);

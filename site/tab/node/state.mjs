// Boots the machine, warms it up, and saves its state: state.mjs MODULES DISK FOLDER [quick]
//
// What has run once is in the machine's memory, and need not be loaded from the disk. With
// "quick", less has run, which is enough for tests.
import fs from "node:fs";
import path from "node:path";
import { image, since, start } from "./machine.mjs";

const [modules, directory, folder, quick] = process.argv.slice(2);
const begin = performance.now();
const say = (text) => console.log(`    ${since(begin).toFixed(0).padStart(3)} s  ${text}`);

// No mitigations: what they protect is an emulator. nokaslr: the same state from the same disk.
const COMMAND_LINE = `console=ttyS0 quiet mitigations=off init_on_alloc=0 apparmor=0 audit=0
  nokaslr norandmaps tsc=reliable random.trust_cpu=on`.replace(/\s+/g, " ");
const FIRST = [
  "steps/network.sh on",
  "steps/02_pid/container.py run true",
  "steps/07_overlay/container.py run busybox true",
];
const MORE = [
  "for step in 00_run 01_uts 02_pid; do steps/$step/container.py run true; done",
  "for step in 03_mnt 04_net 05_user 06_cgroup 07_overlay; do steps/$step/container.py run busybox true; done",
  "steps/07_overlay/container.py run --memory 64M debian true",
  "for n in 01_uts 02_pid 03_mnt 05_user; do steps/$n/breakout.py steps/$n/container.py; done",
  "cp steps/01_uts/container.py my/; workshop check 1 --only hostname",
  "workshop breakout 1",
  "rm -rf my/container.py my/.workshop",
];
const FIRST_CELLS = ['import os, sys\n%load_ext workshop\nimport linux', "!hostname"];
const MORE_CELLS = [
  "%%box warm --ns uts\nlinux.sethostname('warm')\n!hostname",
  "%%box warm\n1/0",
  "%boxes end",
  "1/0",
  "!steps/02_pid/container.py run ps",
  "%diff 1",
  "%inspect",
  "!workshop --help",
];
const LAST_CELLS = [
  "%unload_ext workshop",
  "import os, gc; os.chdir('/workshop/notebooks'); get_ipython().reset(); import gc; gc.collect()",
  "get_ipython().reset()",
];
// Takes out of memory what a visitor does not need at first: files of a container's image and of
// pytest, which are loaded again when they are used, and names and attributes of files (echo 2).
const FORGET = `python3 -S -c "
import os
for top in '/var/lib/workshop/rootfs/debian/usr/bin', '/var/lib/workshop/rootfs/debian/usr/lib/i386-linux-gnu', \\
        '/var/cache/workshop/pycache/opt/workshop/lib/python3.11/site-packages/_pytest':
    for name in os.listdir(top):
        path = top + '/' + name
        if os.path.isfile(path):
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
"; sync; echo 2 >/proc/sys/vm/drop_caches`;
// Fills the free memory with zeros, which take no space in the state, and gives it back. Until
// then the kernel may keep less memory free than it wants to.
const ZERO = `kept=$(cat /proc/sys/vm/min_free_kbytes); echo 700 >/proc/sys/vm/min_free_kbytes; python3 -S -c "
import mmap
with open('/proc/meminfo') as file:
    free = next(int(line.split()[1]) for line in file if line.startswith('MemFree'))
size = (free << 10) - (1200 << 10)
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, size, 4096):
    memory[page] = 0
" && echo $kept >/proc/sys/vm/min_free_kbytes`;

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
for (const command of quick ? FIRST : [...FIRST, ...MORE]) {
  const { status, output } = await machine.sh(command, 3600);
  say(`${status} ${command}`);
  if (process.env.VERBOSE || status > 1) console.log(output);
}
await ready;
say("cells");
for (const code of [...FIRST_CELLS, ...(quick ? [] : MORE_CELLS), ...LAST_CELLS]) {
  const messages = [];
  await machine.cells.run(code, (message) => messages.push(message));
  say(code.split("\n")[0].slice(0, 60));
  if (process.env.VERBOSE) console.log(JSON.stringify(messages).slice(0, 800));
}
for (const command of ["rm -rf my/.workshop my/container.py", FORGET, ZERO]) {
  const { status, output } = await machine.sh(command);
  if (status) throw new Error(output);
}
say("free memory is zero");
machine.send(0, "clear\r");
await new Promise((resolve) => setTimeout(resolve, 3000));
const state = new Uint8Array(await machine.emulator.save_state());
fs.writeFileSync(path.join(folder, "state"), state);
say(`saved ${(state.length / 1e6).toFixed(0)} MB`);
process.exit(0);

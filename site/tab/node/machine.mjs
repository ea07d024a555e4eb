// The machine under Node: what build_tab.py and the tests start.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { Disk } from "../page/disk.mjs";
import { Machine } from "../page/machine.mjs";

const PART = 1 << 20;

// Returns a machine with the disk in a directory that disk.sh has made. modules: npm's packages.
// extra: further options of v86.
export async function start(modules, directory, extra) {
  const v86 = path.join(modules, "v86/build");
  const { V86 } = await import(pathToFileURL(path.resolve(v86, "libv86.mjs")));
  const raw = path.join(directory, "disk.raw");
  const file = fs.openSync(raw);
  const disk = new Disk(fs.statSync(raw).size, PART, async (index) => {
    const bytes = new Uint8Array(PART);
    fs.readSync(file, bytes, 0, PART, index * PART);
    return bytes;
  });
  const wasm = fs.readFileSync(path.join(v86, "v86.wasm"));
  return new Machine(V86, {
    wasm_fn: async (imports) => (await WebAssembly.instantiate(wasm, imports)).instance.exports,
    hda: disk,
    ...extra,
  });
}

// Returns a file as v86 takes it.
export function image(...parts) {
  const bytes = fs.readFileSync(path.join(...parts));
  return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
}

// Returns the seconds since a time of performance.now().
export function since(start) {
  return (performance.now() - start) / 1000;
}

// Returns a machine that goes on from its saved state, a file.
export async function restored(modules, directory, state) {
  const machine = await start(modules, directory, { initial_state: image(state) });
  await machine.started;
  await machine.setClock();
  return machine;
}

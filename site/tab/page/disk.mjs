// The machine's disk: parts of it are loaded when they are first read. What the machine writes
// stays in memory, and is saved with its state. v86 uses it like one of its own buffers.

const BLOCK = 512;

export class Disk {
  // size: in bytes. part: bytes in a part. load(index): returns a promise of the part's bytes.
  constructor(size, part, load) {
    this.byteLength = size;
    this.part = part;
    this.loadPart = load;
    this.parts = new Map(); // index -> promise of its bytes
    this.written = new Map(); // block -> its bytes
  }

  load() {
    this.onload({});
  }

  async get(offset, length, done) {
    const data = new Uint8Array(length);
    const first = Math.floor(offset / this.part);
    const last = Math.floor((offset + length - 1) / this.part);
    for (let index = first; index <= last; index++) {
      if (!this.parts.has(index)) this.parts.set(index, this.loadPart(index));
      const bytes = await this.parts.get(index);
      const from = Math.max(offset, index * this.part);
      const to = Math.min(offset + length, (index + 1) * this.part);
      const start = from - index * this.part;
      data.set(bytes.subarray(start, start + to - from), from - offset);
    }
    this.overlay(offset, data);
    done(data);
  }

  // Puts what has been written over the data at this offset.
  overlay(offset, data) {
    for (let at = 0; at < data.length; at += BLOCK) {
      const block = this.written.get((offset + at) / BLOCK);
      if (block) data.set(block, at);
    }
  }

  set(offset, data, done) {
    for (let at = 0; at < data.length; at += BLOCK)
      this.written.set((offset + at) / BLOCK, data.slice(at, at + BLOCK));
    done();
  }

  // v86 asks this for the partition table, which the disk does not have.
  get_from_cache() {}

  // v86 calls this before a boot.
  get_and_cache(offset, length, done) {
    this.get(offset, length, done);
  }

  get_buffer(done) {
    done();
  }

  get_state() {
    return [[...this.written]];
  }

  set_state([written]) {
    this.written = new Map(written);
  }
}

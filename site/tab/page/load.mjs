// Loads the large files of the page: over HTTP with their progress, from file:// as scripts,
// because a page from there may not read other files. build_tab.py's packed() writes them.

const PREFIX = 'packed("'.length;
const SUFFIX = '")'.length;
const WAITS = [1, 3, 10]; // seconds before another try
const ESCAPED = { n: 10, r: 13 };

export class LoadError extends Error {}

// Returns the bytes of a file. Calls progress(bytes so far) now and then. Raises LoadError if
// several tries have failed. forever: tries until it works, and calls failed() meanwhile.
export async function load(path, { progress = () => {}, forever = false, failed = () => {} } = {}) {
  for (let tries = 0; ; tries++) {
    try {
      return await (location.protocol === "file:" ? fromScript(path) : overHttp(path, progress));
    } catch (error) {
      if (!forever && tries >= WAITS.length) throw new LoadError(error.message);
      failed(path);
      const seconds = WAITS[Math.min(tries, WAITS.length - 1)];
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    }
  }
}

async function overHttp(path, progress) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
  const pieces = [];
  let size = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    progress((size += value.length));
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  if (bytes[size - 1] !== ")".charCodeAt(0)) throw new Error(`${path}: the download was cut off`);
  return unescaped(bytes.subarray(PREFIX, size - SUFFIX));
}

// Removes the escapes of a string in JavaScript, in place.
function unescaped(bytes) {
  let to = bytes.indexOf(92);
  if (to < 0) return bytes;
  for (let from = to; from < bytes.length; from++) {
    const byte = bytes[from];
    if (byte !== 92) bytes[to++] = byte;
    else {
      const next = bytes[++from];
      bytes[to++] = ESCAPED[String.fromCharCode(next)] ?? next;
    }
  }
  return bytes.subarray(0, to);
}

// In windows-1252, 32 bytes are characters with another number than the byte's.
const OTHERS = new Map(
  Array.from({ length: 32 }, (_, index) => {
    const byte = 128 + index;
    const text = new TextDecoder("windows-1252").decode(new Uint8Array([byte]));
    return [text.charCodeAt(0), byte];
  }),
);

const arrived = new Map(); // script -> its bytes
globalThis.packed = (text) => {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    bytes[index] = code < 256 ? code : OTHERS.get(code);
  }
  arrived.set(document.currentScript, bytes);
};

function fromScript(path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.charset = "windows-1252";
    script.src = path;
    script.onload = () => {
      script.remove();
      if (arrived.has(script)) resolve(arrived.get(script));
      else reject(new Error(`${path}: the file is damaged`));
      arrived.delete(script);
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`${path}: the file is missing`));
    };
    document.head.append(script);
  });
}

// Returns what gzip has compressed.
export function unzipped(bytes) {
  return through(bytes, new DecompressionStream("gzip"));
}

export function zipped(bytes) {
  return through(bytes, new CompressionStream("gzip"));
}

async function through(bytes, filter) {
  const stream = new Blob([bytes]).stream().pipeThrough(filter);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

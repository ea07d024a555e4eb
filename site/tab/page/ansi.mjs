// The colours of a terminal in the text of an output, as HTML: ECMA-48's "select graphic
// rendition". Colours 0 to 15 are the page's own, see page.css.

// Returns an element with the text.
export function coloured(text) {
  const element = document.createElement("pre");
  let style = {};
  for (const piece of text.replaceAll("\r\n", "\n").split(/(\x1b\[[0-9;]*m)/)) {
    const codes = /^\x1b\[([0-9;]*)m$/.exec(piece);
    if (codes) style = changed(style, codes[1].split(";").map(Number));
    else if (piece) element.append(span(piece.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, ""), style));
  }
  return element;
}

function changed(before, codes) {
  let style = { ...before };
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index];
    const kind = code >= 40 && code < 50 ? "background" : "color";
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 22) delete style.bold, delete style.dim;
    else if (code === 39 || code === 49) delete style[kind];
    else if ((code >= 30 && code < 38) || (code >= 40 && code < 48)) style[kind] = code % 10;
    else if (code >= 90 && code < 98) style.color = code - 82;
    else if ((code === 38 || code === 48) && codes[index + 1] === 5) {
      style[kind] = codes[index + 2];
      index += 2;
    } else if (code === 38 || code === 48) {
      style[kind] = `rgb(${codes.slice(index + 2, index + 5)})`;
      index += 4;
    }
  }
  return style;
}

function span(text, { color, background, bold, dim, italic }) {
  const element = document.createElement("span");
  element.textContent = text;
  if (color !== undefined) element.style.color = css(color);
  if (background !== undefined) element.style.background = css(background);
  if (bold) element.style.fontWeight = "bold";
  if (dim) element.style.opacity = 0.7;
  if (italic) element.style.fontStyle = "italic";
  return element;
}

// Returns a colour of the 256 that xterm has.
function css(number) {
  if (typeof number === "string") return number;
  if (number < 16) return `var(--ansi${number})`;
  if (number >= 232) return `rgb(${Array(3).fill(8 + 10 * (number - 232))})`;
  const level = (step) => (step ? 55 + 40 * step : 0);
  const index = number - 16;
  return `rgb(${[Math.floor(index / 36), Math.floor(index / 6) % 6, index % 6].map(level)})`;
}

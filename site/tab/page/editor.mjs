// CodeMirror, for my/container.py and for the cells of the lessons.
import { basicSetup, minimalSetup, EditorView } from "codemirror";
import { python } from "@codemirror/lang-python";
import { HighlightStyle, syntaxHighlighting, indentUnit } from "@codemirror/language";
import { keymap, placeholder } from "@codemirror/view";
import { Prec } from "@codemirror/state";
import { indentWithTab } from "@codemirror/commands";
import { tags } from "@lezer/highlight";

const colours = syntaxHighlighting(
  HighlightStyle.define([
    { tag: [tags.keyword, tags.operatorKeyword], color: "var(--ansi5)" },
    { tag: [tags.string, tags.special(tags.string)], color: "var(--ansi2)" },
    { tag: tags.comment, color: "var(--quiet)", fontStyle: "italic" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--ansi6)" },
    { tag: [tags.function(tags.definition(tags.variableName)), tags.className], color: "var(--ansi4)" },
    { tag: tags.meta, color: "var(--ansi3)" },
  ]),
);
const common = [python(), Prec.high(colours), indentUnit.of("    ")];

// Returns the editor of a file. keys: CodeMirror's key bindings. changed() is called when the text
// changes.
export function fileEditor(parent, keys, changed) {
  return new EditorView({
    parent,
    extensions: [
      Prec.high(keymap.of(keys)),
      basicSetup,
      keymap.of([indentWithTab]),
      placeholder("Your runtime. The button above brings the one of the step before."),
      ...common,
      EditorView.updateListener.of((update) => update.docChanged && changed()),
      EditorView.contentAttributes.of({ "aria-label": "my/container.py" }),
    ],
  });
}

// Returns the editor of a cell. Shift+Enter calls run().
export function cellEditor(parent, doc, run) {
  const key = { key: "Shift-Enter", run: () => (run(), true) };
  const extensions = [
    Prec.high(keymap.of([key])),
    minimalSetup,
    ...common,
    EditorView.contentAttributes.of({ "aria-label": "Code cell" }),
  ];
  return new EditorView({ parent, doc, extensions });
}

export function text(view) {
  return view.state.doc.toString();
}

export function setText(view, insert) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert } });
}

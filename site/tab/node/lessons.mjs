// Runs the cells of lessons in the machine, from its saved state, as a learner with all the
// answers: lessons.mjs MODULES DISK STATE NOTEBOOK...
//
// The lessons run one after the other in the same machine, as a visitor reads them. Prints one
// line of JSON for each code cell: { notebook, id, seconds, messages }. guest/cells.py describes
// the messages. workshop/lesson_runner.py does the same in the lab's VM.
import fs from "node:fs";
import { restored, since } from "./machine.mjs";

const LIMIT = 1200; // seconds for a cell
const [modules, disk, state, ...notebooks] = process.argv.slice(2);
const machine = await restored(modules, disk, state);
for (const notebook of notebooks) {
  await machine.sh("rm -rf my/container.py my/.workshop");
  await machine.cells.renew();
  const { cells } = JSON.parse(fs.readFileSync(notebook, "utf8"));
  for (const { id, cell_type, metadata, source } of cells) {
    if (cell_type !== "code") continue;
    if (metadata.learner) await machine.sh(`cp steps/${metadata.learner}/container.py my/`);
    const code = source.join("") + (metadata.only ? ` --only ${metadata.only}` : "");
    const messages = [];
    const begin = performance.now();
    const timer = setTimeout(() => machine.cells.stop(), LIMIT * 1000);
    const { ended } = await machine.cells.run(code, (message) => messages.push(message));
    clearTimeout(timer);
    if (ended) messages.push({ error: "Ended", value: "the process ended", traceback: [] });
    console.log(JSON.stringify({ notebook, id, seconds: since(begin), messages }));
  }
}
process.exit(0);

// Runs the cells of lessons in the machine, from its saved state, as a learner with all the
// answers: lessons.mjs MODULES DISK STATE CELLS
//
// CELLS is a JSON file: for each notebook, a list of { id, learner, code }. A learner has that
// step's reference when the cell runs.
//
// The lessons run one after the other in the same machine, as a visitor reads them. Prints one
// line of JSON for each cell: { id, seconds, messages }. guest/cells.py describes the messages.
// workshop/lesson_runner.py does the same in the lab's VM.
import fs from "node:fs";
import { restored, since } from "./machine.mjs";

const LIMIT = 1200; // seconds for a cell
const [modules, disk, state, list] = process.argv.slice(2);
const machine = await restored(modules, disk, state);
for (const cells of JSON.parse(fs.readFileSync(list, "utf8"))) {
  await machine.sh("rm -rf my/container.py my/.workshop");
  await machine.cells.renew();
  for (const { id, learner, code } of cells) {
    if (learner) await machine.sh(`cp steps/${learner}/container.py my/`);
    const messages = [];
    const begin = performance.now();
    const timer = setTimeout(() => machine.cells.stop(), LIMIT * 1000);
    const { ended } = await machine.cells.run(code, (message) => messages.push(message));
    clearTimeout(timer);
    if (ended) messages.push({ error: "Ended", value: "the process ended", traceback: [] });
    console.log(JSON.stringify({ id, seconds: since(begin), messages }));
  }
}
process.exit(0);

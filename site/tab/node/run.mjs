// Runs commands in the machine, from its saved state: run.mjs MODULES DISK STATE COMMAND...
//
// Prints each command's output and time. The exit status is that of the last command.
import { restored, since } from "./machine.mjs";

const [modules, disk, state, ...commands] = process.argv.slice(2);
const machine = await restored(modules, disk, state);
let last = 0;
for (const command of commands) {
  const begin = performance.now();
  const { status, output } = await machine.sh(command, 7200);
  process.stdout.write(output);
  console.log(`-- status ${status}, ${since(begin).toFixed(1)} s: ${command}`);
  last = status;
}
process.exit(last);

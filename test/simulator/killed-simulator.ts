/**
 * A simulator for a test to kill: prints the pids of its four processes, suspends two, and waits.
 */
import { systemClock } from '../../src/clock.ts';
import { startSimulation } from '../../src/simulator/simulation.ts';

const command = process.argv.slice(2);

let printed = 0;
const allPrinted = Promise.withResolvers<undefined>();

const simulation = await startSimulation({
  appCommand: command,
  sidecarCommand: command,
  env: process.env,
  machineCount: 2,
  clock: systemClock,
  random: Math.random,
  onLine: (_machine, _source, pid) => {
    console.log(pid);
    printed += 1;
    if (printed === 4) allPrinted.resolve(undefined);
  },
});
await allPrinted.promise;
simulation.machines[0]?.suspend();
console.log('suspended');

/** A simulator for a test to kill: prints the pids of its Machines, suspends one, and waits. */
import { systemClock } from '../../src/clock.ts';
import { startSimulation } from '../../src/simulator/simulation.ts';

const command = process.argv.slice(2);

const simulation = await startSimulation({
  appCommand: command,
  sidecarCommand: command,
  env: process.env,
  machineCount: 2,
  clock: systemClock,
  random: Math.random,
  onLine: (_machine, _source, line) => console.log(line),
});
simulation.machines[0]?.suspend();
console.log('suspended');

/**
 * A process that kills everything the simulator started, when the simulator has ended for any reason.
 * The children can't do that: a user's command knows nothing of the simulator, and a suspended process
 * does nothing at all.
 *
 * It reads lines from its standard input: `+<pid>` when a process group was started, `-<pid>` when it
 * ended. The end of the input is the end of the simulator.
 */
import { createInterface } from 'node:readline';

const groups = new Set<number>();

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const group = Number(line.slice(1));
  // Never 0 or 1: a signal to -1 goes to every process.
  if (!Number.isSafeInteger(group) || group <= 1) return;
  if (line.startsWith('+')) groups.add(group);
  else groups.delete(group);
});
lines.once('close', () => {
  for (const group of groups) killGroup(group);
});

function killGroup(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // The group has already ended.
  }
}

/**
 * A process of its own which outlives the simulator by a moment: when the simulator is gone, however
 * it ended, what it had started is killed. Children can't do that themselves: a command of the
 * user's own knows nothing of the simulator, and a suspended process does nothing at all.
 *
 * It reads lines from its standard input: `+<pid>` when a process group was started, `-<pid>` when it
 * ended. The end of the input is the end of the simulator.
 */
import { createInterface } from 'node:readline';

const groups = new Set<number>();

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const group = Number(line.slice(1));
  // 0 and 1 are never ours: to a negative 1, a signal goes to everything.
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
    // It has ended by itself in the meantime.
  }
}

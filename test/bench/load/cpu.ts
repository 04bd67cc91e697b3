/** CPU time of another process. */
import { readdirSync, readFileSync } from 'node:fs';

/** Of all threads, in µs, exact to less than one; undefined where there is no Linux `/proc`. */
export function cpuMicrosOf(pid: number): number | undefined {
  try {
    let nanos = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const [onCpu = ''] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      nanos += Number(onCpu);
    }
    return nanos / 1_000;
  } catch {
    // Another system, or the process has ended: its time is not known.
    return undefined;
  }
}

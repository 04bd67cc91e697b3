/** How much memory processes hold, as Linux tells it in `/proc`. */
import { readFileSync } from 'node:fs';

/** The sum in bytes; undefined where nothing tells it. */
export function residentBytesOf(processes: readonly number[]): number | undefined {
  const sizes = processes.flatMap((pid) => residentBytes(pid) ?? []);
  return sizes.length === 0 ? undefined : sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** proc_pid_status(5). */
function residentBytes(pid: number): number | undefined {
  try {
    const [, kilobytes] =
      /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    // No Linux, or the process has ended.
    return undefined;
  }
}

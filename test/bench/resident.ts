/** Resident memory of a candidate. */
import { readFileSync } from 'node:fs';
import type { Candidate } from './candidates.ts';

const BYTES_PER_KIB = 1_024;

/**
 * In bytes. Node processes collect their garbage first: they must have been started with
 * `processes/memory.ts`.
 */
export async function residentBytes({ process }: Candidate): Promise<number> {
  if (!process.child.connected) return residentBytesOf(process.pid);
  const message = process.nextMessage();
  process.child.send('memory');
  const { rssBytes } = (await message) as { rssBytes: number };
  return rssBytes;
}

/** In bytes, without a garbage collection; NaN where there is no Linux `/proc`. */
export function residentBytesOf(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]) * BYTES_PER_KIB;
  } catch {
    return Number.NaN;
  }
}

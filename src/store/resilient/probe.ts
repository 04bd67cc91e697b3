/** Whether a store works, asked with a key that is nobody's. */
import type { MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { withinTime } from '../time-limit.ts';
import type { SessionStore } from '../store.ts';

/** The hash of no id is all zeros. */
const PROBE_KEY = '0'.repeat(32) as SessionKey;
/** Much longer than a store takes to give up by itself. */
const LIMIT_MS = 10_000;

/** Never rejects. */
export async function probeReads(store: SessionStore, clock: Clock): Promise<boolean> {
  try {
    const found = await withinTime(clock, LIMIT_MS, lookup(store), 'a probe of the session store');
    return found !== 'unknown';
  } catch {
    // Late, or it throws against its contract: it can't be read.
    return false;
  }
}

async function lookup(store: SessionStore): Promise<unknown> {
  return store.lookup(PROBE_KEY);
}

/** Adds a row that expires at once: a full store takes what adds none. Rejects with the store's error. */
export async function probeWrites(
  store: SessionStore,
  self: MachineId,
  clock: Clock,
): Promise<void> {
  const probe = { key: PROBE_KEY, machine: self, origin: 'copied', ttlMs: 1 } as const;
  await withinTime(clock, LIMIT_MS, store.claim(probe), 'a probe of the session store');
}

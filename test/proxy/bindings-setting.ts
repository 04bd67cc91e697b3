/** The bindings of one Machine, over a store in memory. */
import type { TestContext } from 'node:test';
import type { Binding, MachineId, SessionKey } from '../../src/session.ts';
import { createBindings, type Bindings } from '../../src/proxy/bindings.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Lookup, SessionStore } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

export const SELF = machineId('aa');
export const TTL_MS = 600_000;
export const KEY = keyOf('s');

export interface Setting {
  readonly bindings: Bindings;
  readonly clock: TestClock;
  readonly store: SessionStore;
  /** Operations that were called, in order. */
  readonly writes: string[];
  readonly announced: Binding[];
  readonly failures: string[];
  readonly conflicts: [SessionKey, MachineId][];
  /** What the metrics count, in order. */
  readonly counted: string[];
  readonly row: (key?: SessionKey) => Binding | undefined;
}

/** Uses a real memory store. `broken` replaces some of its methods. */
export function setUp(t: TestContext, broken: Partial<SessionStore> = {}): Setting {
  const clock = createTestClock();
  const memory = createMemoryStore({ clock, limits: { maxSessions: 100, maxAgeMs: 0 } });
  const writes: string[] = [];
  const store: SessionStore = {
    ...memory,
    touch: (key, ttlMs) => {
      writes.push('touch');
      return memory.touch(key, ttlMs);
    },
    ...broken,
  };
  const announced: Binding[] = [];
  const failures: string[] = [];
  const conflicts: [SessionKey, MachineId][] = [];
  const counted: string[] = [];
  const bindings = createBindings({
    self: SELF,
    store,
    peers: { announce: (binding) => announced.push(binding) },
    clock,
    ttlMs: TTL_MS,
    onFailure: ({ operation }) => failures.push(operation),
    onConflict: (key, other) => conflicts.push([key, other]),
    metrics: {
      sessionOpened: (protocol) => counted.push(`opened ${protocol}`),
      sessionEnded: (protocol, why) => counted.push(`ended ${protocol}: ${why}`),
    },
  });
  t.after(() => bindings.stop());
  const row = (key = KEY): Binding | undefined => boundIn(memory.lookup(key));
  return { bindings, clock, store: memory, writes, announced, failures, conflicts, counted, row };
}

function boundIn(found: Lookup): Binding | undefined {
  return typeof found === 'string' ? undefined : found;
}

export async function bindHere(
  { store }: Setting,
  key = KEY,
  origin = 'learned' as const,
): Promise<Binding> {
  return store.claim({ key, machine: SELF, origin, ttlMs: TTL_MS });
}

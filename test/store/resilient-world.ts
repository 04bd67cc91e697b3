/** A resilient store around a scripted one, on a test clock, and helpers for both. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { SessionKey } from '../../src/session.ts';
import type { ResilientOptions } from '../../src/store/resilient/resilient-store.ts';
import type { NewBinding, SessionStore, StatedBinding } from '../../src/store/store.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import {
  createScriptedStore,
  works,
  type Script,
  type ScriptedOptions,
  type ScriptedStore,
} from './scripted.ts';
import { openWrapped, passing, until, type Wrapped } from './wrapped.ts';

export const A = machineId('a1');
export const B = machineId('b2');
export const C = machineId('c3');
export const TTL_MS = 60_000;
export const KEY = keyOf('session');
const LIMITS = { maxSessions: 1_000_000, maxAgeMs: 0 };

export interface World {
  readonly clock: TestClock;
  readonly scripted: ScriptedStore;
  readonly store: Wrapped;
}

export type WorldOptions = Partial<ResilientOptions> &
  Partial<ScriptedOptions> & {
    /** The state of the store at the start. */
    readonly script?: Partial<Script>;
    readonly clock?: TestClock;
  };

/** Everything is stopped after the test, and leaves no timer. */
export async function start(t: TestContext, options: WorldOptions = {}): Promise<World> {
  const { script = {}, clock = createTestClock(), ...rest } = options;
  const limits = rest.limits ?? LIMITS;
  const scripted = createScriptedStore({ ...rest, clock, limits });
  scripted.setBehaviour(script);
  const store = await openWrapped(
    t,
    { clock, limits },
    { self: A, open: scripted.open, ...rest },
    (work) => passing(clock, work),
  );
  t.after(() => {
    // What hangs belongs to the scripted store.
    scripted.setBehaviour({ opening: works, reads: works, writes: works, closing: works });
    assert.equal(clock.pendingCount(), 0, 'a timer is left');
  });
  return { clock, scripted, store };
}

export function binding(changes: Partial<NewBinding> = {}): NewBinding {
  return { key: KEY, machine: A, origin: 'learned', ttlMs: TTL_MS, ...changes };
}

export function stated(changes: Partial<StatedBinding> = {}): StatedBinding {
  return { ...binding(), generation: 1, ...changes };
}

export async function ownerOf(store: SessionStore, key = KEY): Promise<string> {
  const found = await store.lookup(key);
  return typeof found === 'string' ? found : found.machine;
}

/** Lets the store work, and advances time until all pending changes are flushed. */
export async function recovered({ clock, store, scripted }: World): Promise<void> {
  scripted.setBehaviour({ opening: works, reads: works, writes: works });
  await until(clock, () => store.health().state === 'healthy');
}

export function countOf({ calls }: ScriptedStore, name: string, key?: SessionKey): number {
  return calls.filter((call) => call.name === name && (key === undefined || call.key === key))
    .length;
}

/**
 * A store that behaves as the test states: works, fails, hangs, is slow, loses its contents. A real
 * store in memory is behind it, so its contents are realistic.
 */
import type { Binding, SessionKey } from '../../src/session.ts';
import type { Clock } from '../../src/clock.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { StoreHooks } from '../../src/store/resilient/status.ts';
import { StoreError } from '../../src/store/store.ts';
import type {
  LocalStore,
  Lookup,
  SessionStore,
  StoreErrorCode,
  StoreLimits,
} from '../../src/store/store.ts';

export type Behaviour =
  | { readonly kind: 'works' }
  /** `isDone`: the write is done anyway, and only its response is lost. */
  | {
      readonly kind: 'fails';
      readonly code: StoreErrorCode;
      readonly isDone: boolean;
      readonly times: number;
    }
  /** Until its behavior is set again; then it acts on that. */
  | { readonly kind: 'hangs' }
  | { readonly kind: 'late'; readonly ms: number };

export const works: Behaviour = { kind: 'works' };
export const hangs: Behaviour = { kind: 'hangs' };

/** Fails that many times, then works. */
export function fails(code: StoreErrorCode = 'passing', times = Infinity): Behaviour {
  return { kind: 'fails', code, isDone: false, times };
}

/** The write is done, and its response is lost. */
export function losesResponses(times = Infinity): Behaviour {
  return { kind: 'fails', code: 'passing', isDone: true, times };
}

export function late(ms: number): Behaviour {
  return { kind: 'late', ms };
}

/** The behavior of each part from now on. */
export interface Script {
  opening: Behaviour;
  reads: Behaviour;
  writes: Behaviour;
  closing: Behaviour;
}

type Called = 'lookup' | 'claim' | 'upsert' | 'rebind' | 'touch' | 'expireWithin' | 'delete';

export interface ScriptedStore {
  /** As the options of a resilient store require it. */
  readonly open: (hooks: StoreHooks) => Promise<SessionStore>;
  /** The hooks of the store that was opened last. */
  readonly hooks: StoreHooks;
  readonly openCount: number;
  readonly closeCount: number;
  /** The operations that have reached it, in order. */
  readonly calls: { readonly name: Called | 'cleanup'; readonly key?: SessionKey }[];
  setBehaviour(script: Partial<Script>): void;
  /** Loses its contents: all of them, or one key. */
  lose(key?: SessionKey): void;
  /** Its contents, read directly, as another Machine on the same database does. */
  readonly data: LocalStore;
  /** Its unexpired contents, by key. */
  held(): Promise<Map<SessionKey, Binding>>;
}

export interface ScriptedOptions {
  readonly clock: Clock;
  readonly limits?: StoreLimits;
  /** Another scripted store on the same database, for another Machine. */
  readonly beside?: ScriptedStore;
  /** Whether lookups take a turn of the event loop, as those of a database do. */
  readonly isRemote?: boolean;
}

const LIMITS: StoreLimits = { maxSessions: 1_000_000, maxAgeMs: 0 };

export function createScriptedStore(options: ScriptedOptions): ScriptedStore {
  const { clock, limits = LIMITS, beside, isRemote = false } = options;
  const script: Script = { opening: works, reads: works, writes: works, closing: works };
  /** How often a part has failed since its behavior was set. */
  const failures: Record<keyof Script, number> = { opening: 0, reads: 0, writes: 0, closing: 0 };
  const calls: { name: Called | 'cleanup'; key?: SessionKey }[] = [];
  const waiting = new Set<() => void>();
  const opened: StoreHooks[] = [];
  let ownData = createMemoryStore({ clock, limits });
  let closeCount = 0;
  const data = (): LocalStore => beside?.data ?? ownData;

  const behaviourChange = (): Promise<void> => new Promise((resolve) => void waiting.add(resolve));
  /** Waits, and throws, as the script states. */
  const act = async <Result>(
    part: keyof Script,
    work: () => Result | Promise<Result>,
    isClosed = (): boolean => false,
  ): Promise<Result> => {
    while (script[part].kind === 'hangs' && !isClosed()) await behaviourChange();
    const behaviour = script[part];
    if (behaviour.kind === 'late') await clock.sleep(behaviour.ms);
    if (isClosed()) throw new StoreError('closed', 'scripted: it was closed');
    if (behaviour.kind !== 'fails' || failures[part] >= behaviour.times) return work();
    failures[part] += 1;
    if (behaviour.isDone) await work();
    throw new StoreError(behaviour.code, `scripted: ${part} fail`);
  };

  const open = async (hooks: StoreHooks): Promise<SessionStore> => {
    opened.push(hooks);
    await act('opening', () => undefined);
    let isClosed = false;
    /** Writes take effect in the order of their calls, so one that hangs delays the others. */
    let turn: Promise<unknown> = Promise.resolve();
    const write = <Result>(
      name: Called | 'cleanup',
      key: SessionKey | undefined,
      work: () => Promise<Result>,
    ): Promise<Result> => {
      calls.push(key === undefined ? { name } : { name, key });
      const result = turn.then(() => act('writes', work, () => isClosed));
      turn = result.catch(() => undefined);
      return result;
    };
    const lookup = (key: SessionKey): Lookup | Promise<Lookup> => {
      calls.push({ name: 'lookup', key });
      if (isClosed) return 'unknown';
      if (!isRemote && script.reads.kind === 'works') return data().lookup(key);
      if (!isRemote && script.reads.kind === 'fails') {
        return (failures.reads += 1) <= script.reads.times ? 'unknown' : data().lookup(key);
      }
      return act(
        'reads',
        () => data().lookup(key),
        () => isClosed,
      ).catch(() => 'unknown' as const);
    };
    return {
      kind: isRemote ? 'redis' : 'sqlite',
      isShared: isRemote,
      lookup,
      claim: (binding) => write('claim', binding.key, () => data().claim(binding)),
      upsert: (binding) => write('upsert', binding.key, () => data().upsert(binding)),
      rebind: (key, ...rest) => write('rebind', key, () => data().rebind(key, ...rest)),
      touch: (key, ttlMs) => write('touch', key, () => data().touch(key, ttlMs)),
      expireWithin: (key, ttlMs) =>
        write('expireWithin', key, () => data().expireWithin(key, ttlMs)),
      delete: (key, ifMachine) => write('delete', key, () => data().delete(key, ifMachine)),
      cleanup: () => write('cleanup', undefined, () => data().cleanup()),
      entries: () => data().entries(),
      getMetrics: () => act('reads', () => data().getMetrics()),
      close: async () => {
        closeCount += 1;
        await act('closing', () => {
          isClosed = true;
          wakeAll(waiting);
        });
      },
    };
  };

  return {
    open,
    get hooks() {
      const hooks = opened.at(-1);
      if (!hooks) throw new Error('it was never opened');
      return hooks;
    },
    get openCount() {
      return opened.length;
    },
    get closeCount() {
      return closeCount;
    },
    calls,
    setBehaviour: (changes) => {
      Object.assign(script, changes);
      for (const part of Object.keys(changes) as (keyof Script)[]) failures[part] = 0;
      wakeAll(waiting);
    },
    lose: (key) => {
      if (key === undefined) ownData = createMemoryStore({ clock, limits });
      else void ownData.delete(key);
    },
    get data() {
      return data();
    },
    held: async () => {
      const held = new Map<SessionKey, Binding>();
      for await (const binding of data().entries()) held.set(binding.key, binding);
      return held;
    },
  };
}

function wakeAll(waiting: Set<() => void>): void {
  for (const wake of waiting) wake();
  waiting.clear();
}

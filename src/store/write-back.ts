/**
 * What was accepted while the store failed, and is still to be written to it: of each key its last
 * state, in the order in which the keys came.
 *
 *     accepted ─> queued (and in the journal, where there is one) ─ written ─> acknowledged: gone
 *                   │                                             └ fails ──> stays, tried again
 *                   └ no room ─> the oldest goes: dropped, counted
 *
 * A binding is stated with its generation, and of two owners of one generation the store keeps the
 * one it has: so what was bound elsewhere meanwhile wins, and that is a conflict. Writing one twice
 * changes nothing, so an acknowledgement that was lost does no harm.
 */
import type { Binding, MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import type { WriteBackResult } from './health.ts';
import type { Outcome, Write } from './rules.ts';
import type { Standby } from './standby.ts';
import type { SessionStore } from './store.ts';

export interface WriteBack {
  has(key: SessionKey): boolean;
  /** Whether the standby knows better than the store what became of the key. */
  knows(key: SessionKey): boolean;
  /** Keys queued. */
  readonly depth: number;
  /** How long the oldest one has waited, in ms; 0 if none. */
  ageMs(): number;
  /**
   * Queues what `write`, performed by the standby, has left behind. Resolves once the journal has
   * it; never rejects.
   */
  add(write: Write, outcome: Outcome): Promise<void>;
  /** Queues a binding that the store may have lost. It needs no journal: it is as old as the store. */
  restore(binding: Binding): void;
  /**
   * Writes the oldest ones to the store, `maxCount` at most at once, and returns how many are
   * settled. Rejects with the first error once all have ended; what failed stays queued.
   */
  drain(store: SessionStore, maxCount: number): Promise<number>;
  clear(): void;
}

/** Where what is queued outlives a restart: a store on this Machine. */
export type Journal = Pick<SessionStore, 'upsert' | 'delete'>;

export interface WriteBackOptions {
  readonly standby: Standby;
  readonly clock: Clock;
  /** Undefined: none, or none yet. */
  readonly journal: () => Journal | undefined;
  readonly maxKeys: number;
  readonly onWritten: (result: WriteBackResult, conflict?: Conflict) => void;
  /** The journal failed: what is queued does not outlive a restart. */
  readonly onJournalError: (error: unknown) => void;
}

export interface Conflict {
  readonly key: SessionKey;
  /** Who owned the session by what was accepted here. */
  readonly accepted: MachineId;
  /** Who owns it by the store. */
  readonly owner: MachineId;
}

type Entry = { readonly queuedAt: number } & (
  | { readonly kind: 'bind' }
  | { readonly kind: 'delete'; readonly ifMachine: MachineId | undefined }
  /** Of a binding that is not known here. */
  | { readonly kind: 'touch' | 'expire'; readonly expiresAt: number }
);

/** Like `Omit`, for each member of a union by itself. */
type Wanted = Entry extends infer Each
  ? Each extends Entry
    ? Omit<Each, 'queuedAt'>
    : never
  : never;

export function createWriteBack(options: WriteBackOptions): WriteBack {
  const { standby, clock, journal, maxKeys, onWritten, onJournalError } = options;
  const entries = new Map<SessionKey, Entry>();

  const put = (key: SessionKey, wanted: Wanted): void => {
    const queuedAt = entries.get(key)?.queuedAt ?? clock.monotonicMs();
    entries.set(key, { ...wanted, queuedAt });
    if (entries.size > maxKeys) dropOldest();
  };
  const dropOldest = (): void => {
    const [oldest] = entries.keys();
    if (oldest === undefined) return;
    entries.delete(oldest);
    onWritten('dropped');
    void unjournal(oldest);
  };
  const journalBinding = async (binding: Binding): Promise<void> => {
    try {
      await journal()?.upsert({ ...binding, ttlMs: binding.expiresAt - clock.now() });
    } catch (error) {
      onJournalError(error);
    }
  };
  const unjournal = async (key: SessionKey): Promise<void> => {
    try {
      await journal()?.delete(key);
    } catch (error) {
      // Then it is written once more after a restart, which changes nothing.
      onJournalError(error);
    }
  };
  const settle = async (key: SessionKey, entry: Entry, store: SessionStore): Promise<void> => {
    const conflict = await writeEntry(key, entry, store, standby, clock);
    onWritten(conflict ? 'conflict' : 'written', conflict);
    // What has come meanwhile is still to be written.
    if (entries.get(key) !== entry) return;
    entries.delete(key);
    await unjournal(key);
  };

  return {
    has: (key) => entries.has(key),
    knows: (key) => {
      const kind = entries.size === 0 ? undefined : entries.get(key)?.kind;
      return kind === 'bind' || kind === 'delete';
    },
    get depth() {
      return entries.size;
    },
    ageMs: () => {
      const [oldest] = entries.values();
      return oldest ? clock.monotonicMs() - oldest.queuedAt : 0;
    },
    add: async (write, outcome) => {
      const wanted = wantedOf(write, outcome);
      if (wanted === undefined) return;
      put(write.key, wanted);
      const { after } = outcome;
      await (wanted.kind === 'bind' && after ? journalBinding(after) : unjournal(write.key));
    },
    restore: ({ key }) => {
      if (!entries.has(key)) put(key, { kind: 'bind' });
    },
    drain: async (store, maxCount) => {
      const oldest = firstOf(entries, maxCount);
      const results = await Promise.allSettled(
        oldest.map(([key, entry]) => settle(key, entry, store)),
      );
      const failed = results.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
      return oldest.length;
    },
    clear: () => entries.clear(),
  };
}

function firstOf<Key, Value>(map: ReadonlyMap<Key, Value>, count: number): [Key, Value][] {
  const first: [Key, Value][] = [];
  for (const entry of map) {
    if (first.length >= count) break;
    first.push(entry);
  }
  return first;
}

/** What the store must hear of; undefined: nothing has changed. */
function wantedOf(write: Write, { after, hasTakenEffect }: Outcome): Wanted | undefined {
  switch (write.kind) {
    case 'claim':
    case 'upsert':
    case 'rebind':
      return hasTakenEffect ? { kind: 'bind' } : undefined;
    case 'touch':
      return after ? { kind: 'bind' } : { kind: 'touch', expiresAt: write.now + write.ttlMs };
    case 'expireWithin':
      return after ? { kind: 'bind' } : { kind: 'expire', expiresAt: write.now + write.ttlMs };
    case 'delete':
      return after ? undefined : { kind: 'delete', ifMachine: write.ifMachine };
  }
}

async function writeEntry(
  key: SessionKey,
  entry: Entry,
  store: SessionStore,
  standby: Standby,
  clock: Clock,
): Promise<Conflict | undefined> {
  switch (entry.kind) {
    case 'bind':
      return writeBinding(standby.find(key), store, standby, clock);
    case 'delete':
      await store.delete(key, entry.ifMachine);
      return undefined;
    case 'touch':
      await store.touch(key, entry.expiresAt - clock.now());
      return undefined;
    case 'expire':
      await store.expireWithin(key, entry.expiresAt - clock.now());
      return undefined;
  }
}

/** One that has expired meanwhile needs no writing. */
async function writeBinding(
  accepted: Binding | undefined,
  store: SessionStore,
  standby: Standby,
  clock: Clock,
): Promise<Conflict | undefined> {
  if (accepted === undefined) return undefined;
  const { key, machine } = accepted;
  const held = await store.upsert({ ...accepted, ttlMs: accepted.expiresAt - clock.now() });
  if (held.machine === machine) return undefined;
  standby.remember(held);
  return { key, accepted: machine, owner: held.machine };
}

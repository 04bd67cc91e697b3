/** What goes on in a store, and beside it, while the event loop is watched. */
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { LocalStore, SessionStore } from '../../src/store/store.ts';
import type { Stage } from './bench.ts';
import { startPinned } from './pinned.ts';
import { bytesOf, openBareReader, openBareWriter } from './store-bare.ts';
import { lengthenLog } from './store-log.ts';
import {
  anyStoredKey,
  claim,
  copyOfFilled,
  HOUR_MS,
  openFile,
  sessionKey,
  storedKey,
} from './store-sessions.ts';
import { openWrapped, STANDBY_ROOM, type WrappedStore } from './store-wrapped.ts';

/** Prepares a stretch of it. */
export type Burden = () => Promise<Stretch>;

export interface Stretch {
  /** The stretch lasts as long as this; where there is none, as long as one likes. */
  readonly work?: () => Promise<unknown>;
  /** What a new session brings about, meanwhile. */
  readonly use?: () => Promise<unknown>;
  /** Waits for what is under way after the stretch. */
  readonly settle?: () => Promise<unknown>;
}

export const nothing: Burden = () => Promise.resolve({});

/** Each use is a new binding, and a lookup of a session that was not asked for lately. */
export async function openBindings(stage: Stage): Promise<Burden> {
  const { store } = await openWatched(stage, await copyOfFilled(stage, 'bindings'));
  const use = createUse(stage, store);
  return () => Promise.resolve({ use, settle: () => settle(store) });
}

/**
 * Half of the sessions have expired and are removed, in a new copy of the file each time, which is
 * read by a clock that is ahead.
 */
export function createCleanUp(stage: Stage): Burden {
  const clock = { ...systemClock, now: () => Date.now() + 1.5 * HOUR_MS };
  const expected = stage.effort.sessionsOnDisk / 2;
  return async () => {
    const path = await copyOfFilled(stage, 'clean-up');
    const { store, inner } = await openWatched(stage, path, clock);
    return {
      // That of the store itself: on a busy computer it takes longer than requests have it wait.
      work: async () => {
        const removed = await inner.cleanup();
        if (removed < expected) throw new Error(`${removed} of ${expected} were removed only`);
      },
      use: createUse(stage, store),
      settle: async () => {
        await settle(store);
        await store.close();
        rmSync(path);
      },
    };
  };
}

/** Another process empties a long log, and lets nobody write meanwhile. */
export async function openCheckpoint(stage: Stage): Promise<Burden> {
  const path = await copyOfFilled(stage, 'checkpoint');
  const { store } = await openWatched(stage, path);
  const use = createUse(stage, store);
  const script = fileURLToPath(new URL('processes/checkpoint.ts', import.meta.url));
  const process = startPinned({ core: 'load', command: [script, path] });
  stage.after(() => process.stop());
  await process.nextMessage();
  const emptyLog = async (): Promise<void> => {
    const answered = process.nextMessage();
    process.child.send('checkpoint');
    const { failure } = (await answered) as { failure: string | undefined };
    if (failure !== undefined) throw new Error(failure);
  };
  return async () => {
    const release = await lengthenLog(stage, store, path, stage.effort.checkpointLogBytes);
    release();
    return { work: emptyLog, use, settle: () => settle(store) };
  };
}

/** The same as {@link openBindings} without a store, on the thread of the event loop. */
export async function openBareBurden(stage: Stage): Promise<Burden> {
  const path = await copyOfFilled(stage, 'bare');
  const writer = openBareWriter(stage, path);
  const read = openBareReader(stage, path);
  let used = 0;
  const use = (): Promise<void> => {
    used += 1;
    const [newKey, oldKey] = bytesOf([sessionKey(`new-${used}`), anyStoredKey(stage.effort)]);
    if (newKey) writer.write(newKey);
    if (oldKey) read(oldKey);
    return Promise.resolve();
  };
  return () => Promise.resolve({ use });
}

function createUse({ effort }: Stage, store: SessionStore): () => Promise<unknown> {
  let used = 0;
  return () => {
    used += 1;
    void store.lookup(anyStoredKey(effort));
    return claim(store, sessionKey(`new-${used}`));
  };
}

/** A store that knows as many sessions by itself as it does after a while. */
async function openWatched(
  stage: Stage,
  path: string,
  clock: Clock = systemClock,
): Promise<{ store: WrappedStore; inner: LocalStore }> {
  const inner = await openFile(path, { clock });
  stage.after(() => inner.close());
  const store = await openWrapped('sqlite', () => Promise.resolve(inner), { clock });
  stage.after(() => store.close());
  const { sessionsOnDisk } = stage.effort;
  // Those that expire last.
  const first = Math.max(0, sessionsOnDisk - STANDBY_ROOM);
  for (let number = first; number < sessionsOnDisk; number += 1) {
    void store.lookup(storedKey(number));
  }
  return { store, inner };
}

async function settle(store: WrappedStore): Promise<void> {
  // Queued behind the writes.
  await store.getMetrics();
  store.tellFailures();
}

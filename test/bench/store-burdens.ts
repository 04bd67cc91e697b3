/** The load on a store, and beside it, while the event loop is measured. */
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

/** Prepares one interval of it. */
export type StoreLoad = () => Promise<Stretch>;

export interface Stretch {
  /** The interval lasts as long as this; without it, as long as the caller chooses. */
  readonly work?: () => Promise<unknown>;
  /** The work of a new session, meanwhile. */
  readonly use?: () => Promise<unknown>;
  /** Waits for what is in progress after the interval. */
  readonly finish?: () => Promise<unknown>;
}

export const nothing: StoreLoad = () => Promise.resolve({});

/** Each use is a new binding, and a lookup of a session that was not used recently. */
export async function openBindings(stage: Stage): Promise<StoreLoad> {
  const { store } = await openWatched(stage, await copyOfFilled(stage, 'bindings'));
  const use = createUse(stage, store);
  return () => Promise.resolve({ use, finish: () => finish(store) });
}

/**
 * Half of the sessions have expired and are removed, in a new copy of the file each time, which is
 * read with a clock that is ahead.
 */
export function createCleanUp(stage: Stage): StoreLoad {
  const clock = { ...systemClock, now: () => Date.now() + 1.5 * HOUR_MS };
  const expected = stage.effort.sessionsOnDisk / 2;
  return async () => {
    const path = await copyOfFilled(stage, 'clean-up');
    const { store, inner } = await openWatched(stage, path, clock);
    return {
      // The store's own limit: on a busy computer it takes longer than requests wait for it.
      work: async () => {
        const removed = await inner.cleanup();
        if (removed < expected) throw new Error(`only ${removed} of ${expected} were removed`);
      },
      use: createUse(stage, store),
      finish: async () => {
        await finish(store);
        await store.close();
        rmSync(path);
      },
    };
  };
}

/** Another process checkpoints a long log, and blocks all writers meanwhile. */
export async function openCheckpoint(stage: Stage): Promise<StoreLoad> {
  const path = await copyOfFilled(stage, 'checkpoint');
  const { store } = await openWatched(stage, path);
  const use = createUse(stage, store);
  const script = fileURLToPath(new URL('processes/checkpoint.ts', import.meta.url));
  const process = startPinned({ core: 'load', command: [script, path] });
  stage.after(() => process.stop());
  await process.nextMessage();
  const emptyLog = async (): Promise<void> => {
    const message = process.nextMessage();
    process.child.send('checkpoint');
    const { failure } = (await message) as { failure: string | undefined };
    if (failure !== undefined) throw new Error(failure);
  };
  return async () => {
    const release = await lengthenLog(stage, store, path, stage.effort.checkpointLogBytes);
    release();
    return { work: emptyLog, use, finish: () => finish(store) };
  };
}

/** The same as {@link openBindings} without a store, on the thread of the event loop. */
export async function openBareLoad(stage: Stage): Promise<StoreLoad> {
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

/** A store with as many cached sessions as after a while in use. */
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

async function finish(store: WrappedStore): Promise<void> {
  // Queued behind the writes.
  await store.getMetrics();
  store.reportFailures();
}

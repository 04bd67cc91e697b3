/** Stores whose commits take a step. In a shared store, lookups take a step too. */
import type { MachineId, SessionKey } from '../../../src/session.ts';
import type { LocalStore, SessionStore } from '../../../src/store/store.ts';
import type { Steps } from './steps.ts';

interface OwnStoreParts {
  readonly self: MachineId;
  readonly memory: LocalStore;
  readonly steps: Steps;
  readonly isBusy: () => boolean;
  /** Called when a write moves a session away from this Machine. */
  readonly onLost: (key: SessionKey) => void;
}

/** A write takes effect at once and commits some steps later. */
export function createOwnStore(parts: OwnStoreParts): SessionStore {
  const { self, memory, steps, isBusy, onLost } = parts;

  function isOurs(key: SessionKey): boolean {
    const found = memory.lookup(key);
    return typeof found === 'object' && found.machine === self;
  }

  function write<Value>(key: SessionKey, perform: () => Promise<Value>): Promise<Value> {
    const wasOurs = isOurs(key);
    const written = perform();
    if (wasOurs && !isOurs(key)) onLost(key);
    return steps.pass(`${self} commits`).then(() => written);
  }

  return {
    ...memory,
    lookup: (key) => (isBusy() ? 'unknown' : memory.lookup(key)),
    claim: (of) => write(of.key, () => memory.claim(of)),
    upsert: (of) => write(of.key, () => memory.upsert(of)),
    rebind: (key, ...rest) => write(key, () => memory.rebind(key, ...rest)),
    delete: (key, ifMachine) => write(key, () => memory.delete(key, ifMachine)),
  };
}

/** One Machine's view of a shared store. */
export function createSharedStore(
  memory: LocalStore,
  steps: Steps,
  isBusy: () => boolean,
): SessionStore {
  async function remotely<Value>(what: string, perform: () => Promise<Value>): Promise<Value> {
    await steps.pass(`${what} arrives`);
    const done = await perform();
    await steps.pass(`${what} is done`);
    return done;
  }

  return {
    ...memory,
    isShared: true,
    lookup: async (key) => {
      await steps.pass('lookup arrives');
      return isBusy() ? 'unknown' : memory.lookup(key);
    },
    claim: (of) => remotely('claim', () => memory.claim(of)),
    upsert: (of) => remotely('upsert', () => memory.upsert(of)),
    rebind: (...args) => remotely('rebind', () => memory.rebind(...args)),
    delete: (...args) => remotely('delete', () => memory.delete(...args)),
  };
}

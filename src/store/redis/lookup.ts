/** The read on the request path: without a round trip where the answer is a second old at most. */
import type { Binding, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import type { CallScript } from './connection.ts';
import type { RedisConnection } from './connection.ts';
import { toRedisStoreError } from './errors.ts';
import { parseStored } from './rows.ts';
import type { RedisKeys } from './rows.ts';
import { LOOKUP } from './scripts.ts';
import type { RemoteCache } from '../remote-cache.ts';
import type { Lookup, StoreError } from '../store.ts';
import type { Timed } from '../write-methods.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface RedisLookupParts {
  readonly connection: Pick<RedisConnection, 'askWithTime'>;
  readonly call: CallScript;
  readonly cache: RemoteCache;
  readonly keys: RedisKeys;
  readonly timed: Timed;
  readonly counters: StoreCounters;
  readonly clock: Clock;
  /** In place of the server's own clock; in ms since the epoch. */
  readonly serverTime: (() => number) | undefined;
  /** Told once when reads begin to fail, not of every one. */
  readonly onFailing: (error: StoreError) => void;
}

/** A request waits no longer for it; then nobody knows. */
const READ_LIMIT_MS = 500;

export function createRedisLookup(
  parts: RedisLookupParts,
): (key: SessionKey) => Lookup | Promise<Lookup> {
  const { cache, counters, timed, onFailing } = parts;
  let isFailing = false;

  const ask = async (key: SessionKey): Promise<Lookup> => {
    const end = cache.beginRead(key);
    try {
      const found = await timed('lookup', () => read(parts, key));
      end(found);
      isFailing = false;
      return found;
    } catch (error) {
      end('absent');
      if (!isFailing) onFailing(toRedisStoreError('store lookup', error));
      isFailing = true;
      return 'unknown';
    }
  };

  return (key) => {
    counters.lookups += 1;
    return cache.get(key) ?? ask(key);
  };
}

async function read(parts: RedisLookupParts, key: SessionKey): Promise<Binding | 'absent'> {
  const { keys, clock, serverTime } = parts;
  const name = keys.prefix + key;
  const { text, time } = await (parts.cache.isWriting(key)
    ? readBehindWrite(parts, name)
    : readAlone(parts, name));
  if (typeof text !== 'string') return 'absent';
  return parseStored(key, text, Math.floor(serverTime?.() ?? serverMs(time)), clock.now());
}

/** A stored text, and the server's time in seconds and µs. */
interface Stored {
  readonly text: unknown;
  readonly time: readonly unknown[];
}

/** A script costs the server more than all the rest, so there is none where a plain read will do. */
async function readAlone({ connection }: RedisLookupParts, name: string): Promise<Stored> {
  const [text, time] = await connection.askWithTime(['GET', name], READ_LIMIT_MS);
  return { text, time: Array.isArray(time) ? time : [] };
}

/** As scripts keep their order even where the server has forgotten them: see `calls.ts`. */
async function readBehindWrite({ call }: RedisLookupParts, name: string): Promise<Stored> {
  const question = { script: LOOKUP, keys: [name], args: [], limitMs: READ_LIMIT_MS };
  const [text, ...time] = await call(question);
  return { text, time };
}

function serverMs([seconds, micros]: readonly unknown[]): number {
  return Number(seconds) * 1_000 + Number(micros) / 1_000;
}

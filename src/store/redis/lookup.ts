/** The read on the request path: no round trip if the last response is at most a second old. */
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
  /** Replaces the server's clock; in ms since the epoch. */
  readonly serverTime: (() => number) | undefined;
  /** Called when reads begin to fail, not for every failed read. */
  readonly onFailing: (error: StoreError) => void;
}

/** How long a request waits for a read; then the result is `unknown`. */
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

/** A script costs the server more than all other work of a read, so a plain read uses none. */
async function readAlone({ connection }: RedisLookupParts, name: string): Promise<Stored> {
  const [text, time] = await connection.askWithTime(['GET', name], READ_LIMIT_MS);
  return { text, time: Array.isArray(time) ? time : [] };
}

/** Scripts keep their order even if the server has forgotten them: see `callScript`. */
async function readBehindWrite({ call }: RedisLookupParts, name: string): Promise<Stored> {
  const question = { script: LOOKUP, keys: [name], args: [], limitMs: READ_LIMIT_MS };
  const [text, ...time] = await call(question);
  return { text, time };
}

function serverMs([seconds, micros]: readonly unknown[]): number {
  return Number(seconds) * 1_000 + Number(micros) / 1_000;
}

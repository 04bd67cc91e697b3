/** The read on the request path: without a round trip where the answer is a second old at most. */
import type { Binding, SessionKey } from '../../affinity/session.ts';
import type { Clock } from '../../clock.ts';
import type { CallScript } from './calls.ts';
import { toStoreError } from './errors.ts';
import { parseStored } from './rows.ts';
import type { RedisKeys } from './rows.ts';
import { LOOKUP } from './scripts.ts';
import type { RemoteCache } from '../remote-cache.ts';
import type { Lookup, StoreError } from '../store.ts';
import type { Timed } from '../timed.ts';
import type { StoreCounters } from '../write-methods.ts';

export interface RedisLookupParts {
  readonly call: CallScript;
  readonly cache: RemoteCache;
  readonly keys: RedisKeys;
  readonly timed: Timed;
  readonly counters: StoreCounters;
  readonly clock: Clock;
  /** ARGV[1] of every script. */
  readonly moment: () => string;
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
      if (!isFailing) onFailing(toStoreError('store lookup', error));
      isFailing = true;
      return 'unknown';
    }
  };

  return (key) => {
    counters.lookups += 1;
    return cache.get(key) ?? ask(key);
  };
}

async function read(
  { call, keys, clock, moment }: RedisLookupParts,
  key: SessionKey,
): Promise<Binding | 'absent'> {
  const reply = await call({
    script: LOOKUP,
    keys: [keys.prefix + key],
    args: [moment()],
    limitMs: READ_LIMIT_MS,
  });
  return parseStored(key, reply, clock.now());
}

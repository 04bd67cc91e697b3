/** The scripts of the store, each called in one round trip. */
import type { Clock } from '../../clock.ts';
import type { RedisConnection } from './connection.ts';
import { redisCodeOf } from './errors.ts';
import type { Script } from './scripts.ts';
import { StoreError } from '../store.ts';

export interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  /** Of the answer, in ms. */
  readonly limitMs: number;
}

/** What the script returns, a list. Rejects as {@link RedisConnection.ask} does. */
export type CallScript = (call: ScriptCall) => Promise<string[]>;

/**
 * A server that was told to forget all scripts is sent them again with the call. It has forgotten
 * them for the calls behind this one too, so they keep their order: a read is a script for that.
 */
export function createScriptCalls(
  connection: Pick<RedisConnection, 'ask'>,
  clock: Clock,
): CallScript {
  return async ({ script, keys, args, limitMs }) => {
    const startedAt = clock.monotonicMs();
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return listOf(await connection.ask(['EVALSHA', script.sha, ...rest], limitMs));
    } catch (error) {
      if (redisCodeOf(error) !== 'NOSCRIPT') throw error;
      const leftMs = Math.max(0, startedAt + limitMs - clock.monotonicMs());
      return listOf(await connection.ask(['EVAL', script.text, ...rest], leftMs));
    }
  };
}

function listOf(answer: unknown): string[] {
  if (Array.isArray(answer)) return answer.map(String);
  throw new StoreError('fatal', 'the Redis server answers a script with what is no list');
}

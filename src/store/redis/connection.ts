/**
 * Keeps a connection to a Redis server, and reconnects when it breaks:
 *
 *     up ─ broken, stalled for 5 s, or a replica ───> down ─ pause ─> dialing ─ connected ─> up
 *                                                       ^                 └ failed ┐
 *                                                       └──── a longer pause ──────┘
 *     any ─ close ─> closed
 *
 * Nothing is queued while it is down: a command fails at once. There is one link at a time, so
 * commands run on the server in the order of their calls. A command that timed out has failed for
 * its caller; the server may still run it, and its late response is dropped, because responses come
 * in order.
 */
import { DisconnectsClientError } from 'redis';
import type { Cancel, Clock } from '../../clock.ts';
import { backoffDelayMs } from '../../resilience.ts';
import { type RedisAddress, dialRedis, type RedisLink } from './link.ts';
import { isReply, redisCodeOf, toRedisStoreError } from './errors.ts';
import type { Script } from './scripts.ts';
import { StoreError } from '../store.ts';
import { startTimeLimit } from '../time-limit.ts';

interface RedisConnectionOptions {
  readonly address: RedisAddress;
  readonly clock: Clock;
  readonly random: () => number;
  /** Called when the connection is lost, not for every failed attempt to reconnect. */
  readonly onError?: ((error: StoreError) => void) | undefined;
  /** Called when an established connection is dropped, for whatever reason. */
  readonly onDisrupted?: (() => void) | undefined;
}

type State =
  | { readonly kind: 'up'; readonly link: RedisLink }
  | { readonly kind: 'down'; readonly why: StoreError }
  | { readonly kind: 'closed' };

/** A server that came back is found after half a second on average, however long it was away. */
const PAUSES = { delayMs: 50, maxDelayMs: 5_000 };
/** A server that sends nothing for this long may be gone without closing the connection. */
const MAX_SILENCE_MS = 5_000;
/** A replica may be the only server: reconnect to look for another one this often at most. */
const RENEWAL_MS = 10_000;
const READ_TIME = ['TIME'] as const;

export class RedisConnection {
  readonly #options: RedisConnectionOptions;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  #state: State;
  /** Responses received on all links. While it does not change, the server has sent nothing. */
  #responses = 0;
  /** Cancels the check whether a late link has responded since. */
  #cancelSuspicion: Cancel | undefined;
  #renewedAtMs = -Infinity;
  #reconnecting: Promise<void> | undefined;

  private constructor(options: RedisConnectionOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#state = { kind: 'down', why: new StoreError('passing', 'not connected yet') };
  }

  /** Rejects with a {@link StoreError} if the first attempt fails; then nothing is left open. */
  static async open(options: RedisConnectionOptions): Promise<RedisConnection> {
    const connection = new RedisConnection(options);
    await connection.#dial();
    return connection;
  }

  isUp(): boolean {
    return this.#state.kind === 'up';
  }

  /** Rejects with the server's error, the library's, or a {@link StoreError}. */
  ask(command: readonly string[], limitMs: number): Promise<unknown> {
    return this.#askAll((link) => link.send(command), limitMs);
  }

  /** The same in one round trip with the server's time right after it, as `TIME` returns it. */
  askWithTime(command: readonly string[], limitMs: number): Promise<[unknown, unknown]> {
    return this.#askAll((link) => Promise.all([link.send(command), link.send(READ_TIME)]), limitMs);
  }

  #askAll<Answer>(send: (link: RedisLink) => Promise<Answer>, limitMs: number): Promise<Answer> {
    const state = this.#state;
    if (state.kind !== 'up') return Promise.reject(whyNot(state));
    const { link } = state;
    const responsesBefore = this.#responses;
    return new Promise((resolve, reject) => {
      const cancel = startTimeLimit(this.#clock, limitMs, () => {
        this.#suspect(link, responsesBefore, MAX_SILENCE_MS - limitMs);
        reject(new StoreError('passing', `no response within ${limitMs} ms`));
      });
      send(link).then(
        (response) => {
          cancel();
          this.#responses += 1;
          resolve(response);
        },
        (error: unknown) => {
          cancel();
          if (isReply(error)) this.#responses += 1;
          reject(this.#explain(error));
          if (redisCodeOf(error) === 'READONLY') this.#renew(link, error);
        },
      );
    });
  }

  /** Replaces a link that may be dead, at once. */
  reconnect(): void {
    const why = new StoreError('passing', 'this Machine was suspended');
    if (this.#state.kind === 'up') this.#giveUp(this.#state.link, why, true);
  }

  async close(): Promise<void> {
    const state = this.#state;
    this.#state = { kind: 'closed' };
    this.#closing.abort();
    this.#cancelSuspicion?.();
    if (state.kind === 'up') state.link.close();
    await this.#reconnecting;
  }

  async #dial(): Promise<void> {
    const { address } = this.#options;
    const link: RedisLink = await dialRedis(address, {
      clock: this.#clock,
      signal: this.#closing.signal,
      onBroken: (error) => this.#lose(link, toRedisStoreError('the connection', error)),
    });
    // A `close` in between has closed it.
    if (this.#state.kind !== 'closed') this.#state = { kind: 'up', link };
  }

  /** The errors of a closed link do not say why it was closed. */
  #explain(error: unknown): Error {
    const state = this.#state;
    if (error instanceof DisconnectsClientError && state.kind !== 'up') return whyNot(state);
    return error instanceof Error ? error : new Error(String(error));
  }

  /** One late response proves little. */
  #suspect(link: RedisLink, responsesBefore: number, moreMs: number): void {
    if (this.#cancelSuspicion || this.#responses > responsesBefore) return;
    this.#cancelSuspicion = this.#clock.after(moreMs, () => {
      this.#cancelSuspicion = undefined;
      if (this.#responses > responsesBefore) return;
      this.#lose(link, new StoreError('passing', `no response within ${MAX_SILENCE_MS} ms`));
    });
  }

  /** The server's name may resolve to another server by now. */
  #renew(link: RedisLink, error: unknown): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#renewedAtMs < RENEWAL_MS) return;
    this.#renewedAtMs = now;
    this.#giveUp(link, toRedisStoreError('writing', error));
  }

  #lose(link: RedisLink, why: StoreError): void {
    if (this.#giveUp(link, why)) this.#options.onError?.(why);
  }

  /** False if that was done already. */
  #giveUp(link: RedisLink, why: StoreError, isUrgent = false): boolean {
    if (this.#state.kind !== 'up' || this.#state.link !== link) return false;
    this.#state = { kind: 'down', why };
    this.#cancelSuspicion?.();
    this.#cancelSuspicion = undefined;
    link.close();
    this.#reconnecting = this.#reconnect(isUrgent);
    this.#options.onDisrupted?.();
    return true;
  }

  #isDown(): boolean {
    return this.#state.kind === 'down';
  }

  async #reconnect(isUrgent: boolean): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; this.#isDown(); attempt += 1) {
      const pauseMs = backoffDelayMs(attempt, PAUSES, this.#options.random);
      if (attempt > 0 || !isUrgent) await this.#clock.sleep(pauseMs, signal);
      if (signal.aborted) return;
      try {
        await this.#dial();
      } catch (error) {
        if (this.#isDown())
          this.#state = { kind: 'down', why: toRedisStoreError('connecting', error) };
      }
    }
  }
}

function whyNot(state: Exclude<State, { kind: 'up' }>): StoreError {
  if (state.kind === 'closed') return new StoreError('closed', 'the session store is closed');
  const { code, message } = state.why;
  return new StoreError(code, `there is no connection: ${message}`, { cause: state.why });
}

interface ScriptCall {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  /** The limit of the response, in ms. */
  readonly limitMs: number;
}

/** Returns the script's list. Rejects as {@link RedisConnection.ask} does. */
export type CallScript = (call: ScriptCall) => Promise<string[]>;

/**
 * Sends a script again if the server has forgotten all scripts. It has forgotten them for the calls
 * behind this one too, so the calls keep their order.
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

function listOf(response: unknown): string[] {
  if (Array.isArray(response)) return response.map(String);
  throw new StoreError(
    'fatal',
    'the Redis server responded to a script with something other than a list',
  );
}

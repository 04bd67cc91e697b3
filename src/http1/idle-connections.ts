/**
 * Connections that wait for a request. The one that was used last is taken first, so that those
 * beyond the usual need grow old and go.
 */
import type { Cancel, Clock } from '../clock.ts';
import type { Connection } from './connection.ts';

export interface IdleConnections {
  /** Keeps it for `lifeMs`, if that is above 0. */
  add(connection: Connection, lifeMs: number): void;
  /** Undefined if there is none. */
  take(): TakenConnection | undefined;
  /** Those that are idle now may be about to be ended by the server. */
  doubtAll(): void;
  /** Forgets all; closing them is the caller's. */
  clear(): void;
}

export interface TakenConnection {
  readonly connection: Connection;
  /** It may just have been ended: better look before sending. */
  readonly isInDoubt: boolean;
}

/** How often old ones are looked for, in ms; one that is past its time is never used anyway. */
const SWEEP_INTERVAL_MS = 1_000;
/** After this time, in ms, an idle connection may be just about to be ended by its server. */
const DOUBTFUL_IDLE_MS = 250;

interface Entry {
  readonly connection: Connection;
  readonly since: number;
  readonly until: number;
}

export function createIdleConnections(clock: Clock): IdleConnections {
  let entries: Entry[] = [];
  let stopSweeping: Cancel | undefined;
  let doubtedAt = -Infinity;

  function sweep(): void {
    const now = clock.monotonicMs();
    const old = entries.filter(({ until, connection }) => until <= now || !connection.isIdle);
    entries = entries.filter(({ until, connection }) => until > now && connection.isIdle);
    for (const { connection } of old) connection.abort(IDLE);
    if (entries.length === 0) stop();
  }

  function stop(): void {
    stopSweeping?.();
    stopSweeping = undefined;
  }

  function add(connection: Connection, lifeMs: number): void {
    if (lifeMs <= 0) {
      connection.abort(IDLE);
      return;
    }
    const since = clock.monotonicMs();
    entries.push({ connection, since, until: since + lifeMs });
    // One timer for all: setting one per request costs more than the look-up it saves.
    stopSweeping ??= clock.every(SWEEP_INTERVAL_MS, sweep);
  }

  function take(): TakenConnection | undefined {
    const now = clock.monotonicMs();
    for (let entry = entries.pop(); entry; entry = entries.pop()) {
      const { connection, since, until } = entry;
      const isInDoubt = now - since >= DOUBTFUL_IDLE_MS || since <= doubtedAt;
      if (until > now && connection.isIdle) return { connection, isInDoubt };
      connection.abort(IDLE);
    }
    return undefined;
  }

  function clear(): void {
    entries = [];
    stop();
  }

  return { add, take, doubtAll: () => void (doubtedAt = clock.monotonicMs()), clear };
}

const IDLE = new Error('the connection was idle for too long');

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
  /** It was closed. */
  remove(connection: Connection): void;
  /** Forgets all; closing them is the caller's. */
  clear(): void;
}

export interface TakenConnection {
  readonly connection: Connection;
  readonly idleMs: number;
}

/** How often old ones are looked for, in ms; one that is past its time is never used anyway. */
const SWEEP_INTERVAL_MS = 1_000;

interface Entry {
  readonly connection: Connection;
  readonly since: number;
  readonly until: number;
}

export function createIdleConnections(clock: Clock): IdleConnections {
  let entries: Entry[] = [];
  let stopSweeping: Cancel | undefined;

  function sweep(): void {
    const now = clock.monotonicMs();
    const [kept, old] = [entries.filter(isFresh), entries.filter((entry) => !isFresh(entry))];
    entries = kept;
    for (const { connection } of old) connection.abort(IDLE);
    if (entries.length === 0) stop();

    function isFresh(entry: Entry): boolean {
      return entry.until > now;
    }
  }

  function stop(): void {
    stopSweeping?.();
    stopSweeping = undefined;
  }

  return {
    add: (connection, lifeMs) => {
      if (lifeMs <= 0) {
        connection.abort(IDLE);
        return;
      }
      const since = clock.monotonicMs();
      entries.push({ connection, since, until: since + lifeMs });
      // One timer for all: setting one per request costs more than the look-up it saves.
      stopSweeping ??= clock.every(SWEEP_INTERVAL_MS, sweep);
    },
    take: () => {
      const now = clock.monotonicMs();
      for (let entry = entries.pop(); entry; entry = entries.pop()) {
        const { connection, since, until } = entry;
        if (until > now && connection.isIdle) return { connection, idleMs: now - since };
        connection.abort(IDLE);
      }
      return undefined;
    },
    remove: (connection) => {
      const at = entries.findIndex((entry) => entry.connection === connection);
      if (at !== -1) entries.splice(at, 1);
    },
    clear: () => {
      entries = [];
      stop();
    },
  };
}

const IDLE = new Error('the connection was idle for too long');

/**
 * The open streams and sockets of each session of this Machine. They are closed when the session is
 * released:
 *
 *     open ─ released ─> closing: within a second, or 30 s if it may be a finite response
 *       └─ ends by itself ─> removed <─┘
 */
import type { MachineId, SessionKey } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics, ReleaseReason } from '../observability/metrics.ts';

/** A response of unknown length, such as a chunked download, may be finite: it gets time to finish. */
export type StreamLength = 'endless' | 'maybe-finite';

export interface OpenStreams {
  /** `close` closes the stream. Returns a function that removes it after its end; a second call does nothing. */
  add(key: SessionKey, length: StreamLength, close: (why: ReleaseReason) => void): () => void;
  /** Closes the streams of a session, and returns their number, without those that are closing already. */
  release(key: SessionKey, why: ReleaseReason): number;
  /** The number of open streams that are not closing. */
  count(key: SessionKey): number;
  /** Closes no more streams: they end with their connections. */
  stop(): void;
}

interface OpenStreamsParts {
  readonly clock: Pick<Clock, 'after'>;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** Spreads the reconnects of all clients of a room. */
export const RELEASE_JITTER_MS = 1_000;
/** The minimum time for a finite response. */
export const FINISH_GRACE_MS = 30_000;

interface OpenStream {
  readonly length: StreamLength;
  readonly close: (why: ReleaseReason) => void;
  /** Set while it is closing. */
  cancel: Cancel | undefined;
}

export function createOpenStreams({ clock, random }: OpenStreamsParts): OpenStreams {
  const streamsOf = new Map<SessionKey, Set<OpenStream>>();
  let isStopped = false;

  const remove = (key: SessionKey, stream: OpenStream): void => {
    stream.cancel?.();
    const streams = streamsOf.get(key);
    if (!streams?.delete(stream) || streams.size > 0) return;
    streamsOf.delete(key);
  };

  const opened = (key: SessionKey): OpenStream[] =>
    [...(streamsOf.get(key) ?? [])].filter(({ cancel }) => cancel === undefined);

  return {
    add: (key, length, close) => {
      const stream: OpenStream = { length, close, cancel: undefined };
      const streams = streamsOf.get(key);
      if (streams) streams.add(stream);
      else streamsOf.set(key, new Set([stream]));
      return () => remove(key, stream);
    },
    release: (key, why) => {
      if (isStopped) return 0;
      const streams = opened(key);
      for (const stream of streams) {
        const graceMs = stream.length === 'endless' ? 0 : FINISH_GRACE_MS;
        const inMs = graceMs + random() * RELEASE_JITTER_MS;
        stream.cancel = clock.after(inMs, () => stream.close(why));
      }
      return streams.length;
    },
    count: (key) => opened(key).length,
    stop: () => {
      isStopped = true;
      for (const streams of streamsOf.values()) for (const { cancel } of streams) cancel?.();
    },
  };
}

export interface Release {
  /** The new owner of the session, if any. */
  readonly to?: MachineId | undefined;
  readonly why: ReleaseReason;
}

/**
 * This Machine no longer owns the session: closes its streams and sockets, so that their clients
 * reconnect and reach the new owner. Finite responses finish. Each call logs one line.
 */
type ReleaseSession = (key: SessionKey, release: Release) => void;

interface SessionReleaseParts {
  readonly streams: Pick<OpenStreams, 'release'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly metrics: Pick<Metrics, 'sessionReleased'>;
}

export function createSessionRelease({
  streams,
  logger,
  metrics,
}: SessionReleaseParts): ReleaseSession {
  return (session, { to: owner, why }) => {
    const fields = { session, owner, why, streams: streams.release(session, why) };
    metrics.sessionReleased(why);
    // The other reasons are an operator's action.
    if (why === 'outranked') logger.warn(fields, OWNED_BY_ANOTHER);
    else logger.info(fields, why === 'moved' ? OWNED_BY_ANOTHER : DELETED);
  };
}

const OWNED_BY_ANOTHER = 'session released: another Machine owns it';
const DELETED = 'session released: it was deleted';

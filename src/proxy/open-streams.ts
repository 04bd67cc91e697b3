/**
 * The open streams and sockets of each session of this Machine, to be closed when the session is not
 * its own any more:
 *
 *     open ─ released ─> closing: within a second, or 30 s if it may be a finite response
 *       └─ ends by itself ─> removed <─┘
 */
import type { SessionKey } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { ReleaseReason } from '../observability/metrics.ts';

/** A response of unknown length, such as a download in chunks, may be finite: it gets time to finish. */
export type StreamSort = 'endless' | 'maybe-finite';

export interface OpenStreams {
  /** `close` breaks it off. Returns the removal, for when it has ended; calling it twice does nothing. */
  add(key: SessionKey, sort: StreamSort, close: (why: ReleaseReason) => void): () => void;
  /** Closes the streams of a session, and returns their number. Those that are closing already do not count. */
  release(key: SessionKey, why: ReleaseReason): number;
  /** How many are open and not closing. */
  count(key: SessionKey): number;
  /** Closes nothing more: the streams end with their connections. */
  stop(): void;
}

export interface OpenStreamsParts {
  readonly clock: Pick<Clock, 'after'>;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** All clients of a room reconnect, and must not do so in one millisecond. */
export const RELEASE_JITTER_MS = 1_000;
/** What a finite response gets at least. */
export const FINISH_GRACE_MS = 30_000;

interface OpenStream {
  readonly sort: StreamSort;
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
    add: (key, sort, close) => {
      const stream: OpenStream = { sort, close, cancel: undefined };
      const streams = streamsOf.get(key);
      if (streams) streams.add(stream);
      else streamsOf.set(key, new Set([stream]));
      return () => remove(key, stream);
    },
    release: (key, why) => {
      if (isStopped) return 0;
      const streams = opened(key);
      for (const stream of streams) {
        const graceMs = stream.sort === 'endless' ? 0 : FINISH_GRACE_MS;
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

/**
 * A stream or socket that is open: it is counted, keeps the sessions of this Machine alive that it
 * belongs to, and is closed when one of them is released.
 */
import type { SessionKey } from '../session.ts';
import type { ReleaseReason } from '../observability/metrics.ts';
import type { Bindings } from './bindings.ts';
import type { RequestObserver, StreamKind } from './observer.ts';
import type { OpenStreams, StreamSort } from './open-streams.ts';

export interface SessionStreamParts {
  readonly bindings: Pick<Bindings, 'hold' | 'endWithStream'>;
  readonly openStreams: Pick<OpenStreams, 'add'>;
  readonly observer: Pick<RequestObserver, 'onStreamOpened' | 'onStreamClosed'>;
  /** Breaks it off: its session is released. */
  readonly onReleased: (why: ReleaseReason) => void;
}

/** Opened once, closed once; whatever comes after the closing is as good as nothing. */
export class SessionStream {
  readonly #parts: SessionStreamParts;
  #kind: StreamKind | undefined;
  #sort: StreamSort | undefined;
  #isClosed = false;
  #atClosing: (() => void)[] | undefined;

  constructor(parts: SessionStreamParts) {
    this.#parts = parts;
  }

  /** `keys`: the sessions of this Machine that the stream belongs to. */
  open(kind: StreamKind, sort: StreamSort, keys: readonly SessionKey[]): void {
    if (this.#isClosed) return;
    this.#kind = kind;
    this.#sort = sort;
    this.#parts.observer.onStreamOpened(kind);
    for (const key of keys) this.#hold(key);
  }

  /** The stream itself has taught this session: it lives as long as the stream, and a little longer. */
  carry(key: SessionKey): void {
    const { bindings } = this.#parts;
    if (!this.#isClosed) this.#hold(key);
    this.#atClose(() => bindings.endWithStream(key));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#kind) this.#parts.observer.onStreamClosed(this.#kind);
    for (const step of this.#atClosing ?? []) step();
  }

  #hold(key: SessionKey): void {
    const { bindings, openStreams, onReleased } = this.#parts;
    this.#atClose(bindings.hold(key));
    // One whose length is known is finished, whoever owns its session.
    if (this.#sort) this.#atClose(openStreams.add(key, this.#sort, onReleased));
  }

  /** Most requests open no stream and hold nothing. */
  #atClose(step: () => void): void {
    if (this.#isClosed) step();
    else (this.#atClosing ??= []).push(step);
  }
}

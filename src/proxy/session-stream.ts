/**
 * An open stream or socket: counts itself, keeps its sessions of this Machine alive, and is closed when
 * one of them is released.
 */
import type { SessionKey } from '../session.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import type { Metrics, ReleaseReason } from '../observability/metrics.ts';
import { headerValue } from '../protocols/heads.ts';
import type { Bindings } from './bindings.ts';
import type { OpenStreams, StreamSort } from './open-streams.ts';

export type StreamKind = 'http' | 'websocket';

export interface SessionStreamParts {
  readonly bindings: Pick<Bindings, 'keepAlive' | 'endWithStream'>;
  readonly openStreams: Pick<OpenStreams, 'add'>;
  readonly metrics: Pick<Metrics, 'openStreams'>;
  /** Its session is released: the stream must be closed. */
  readonly onReleased: (why: ReleaseReason) => void;
}

/** Opened once, closed once; later calls have no effect. */
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
    this.#parts.metrics.openStreams(kind, 1);
    for (const key of keys) this.#keepAlive(key);
  }

  /** The stream has revealed this session, which lives as long as the stream, and a little longer. */
  carry(key: SessionKey): void {
    const { bindings } = this.#parts;
    if (!this.#isClosed) this.#keepAlive(key);
    this.#atClose(() => bindings.endWithStream(key));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#kind) this.#parts.metrics.openStreams(this.#kind, -1);
    for (const step of this.#atClosing ?? []) step();
  }

  #keepAlive(key: SessionKey): void {
    const { bindings, openStreams, onReleased } = this.#parts;
    this.#atClose(bindings.keepAlive(key));
    // A response of known length finishes, even if its session has a new owner.
    if (this.#sort) this.#atClose(openStreams.add(key, this.#sort, onReleased));
  }

  /** Most requests open no stream. */
  #atClose(step: () => void): void {
    if (this.#isClosed) step();
    else (this.#atClosing ??= []).push(step);
  }
}

/** For a response of unknown length. */
export function sortOf({ rawHeaders }: ParsedResponseHead): StreamSort {
  const type = headerValue(rawHeaders, 'content-type');
  return type !== undefined && ENDLESS_TYPES.test(type) ? 'endless' : 'maybe-finite';
}

const ENDLESS_TYPES = /^\s*(text\/event-stream|multipart\/x-mixed-replace)\b/i;

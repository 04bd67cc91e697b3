/** A stream or socket that is open: counted, and a session of this Machine is kept alive by it. */
import type { SessionKey } from '../affinity/session.ts';
import type { Bindings } from './bindings.ts';
import type { RequestObserver, StreamKind } from './observer.ts';

/** Opened once, closed once; whatever comes after the closing is as good as nothing. */
export class SessionStream {
  readonly #bindings: Bindings;
  readonly #observer: RequestObserver;
  #kind: StreamKind | undefined;
  #isClosed = false;
  #releases: (() => void)[] | undefined;

  constructor(bindings: Bindings, observer: RequestObserver) {
    this.#bindings = bindings;
    this.#observer = observer;
  }

  /** `keys`: the sessions of this Machine that the stream belongs to. */
  open(kind: StreamKind, keys: readonly SessionKey[]): void {
    if (this.#isClosed) return;
    this.#kind = kind;
    this.#observer.onStreamOpened(kind);
    for (const key of keys) this.#atClose(this.#bindings.hold(key));
  }

  /** The stream itself has taught this session: it lives as long as the stream, and a little longer. */
  carry(key: SessionKey): void {
    if (this.#isClosed) {
      this.#bindings.endWithStream(key);
      return;
    }
    const release = this.#bindings.hold(key);
    this.#atClose(() => {
      release();
      this.#bindings.endWithStream(key);
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#kind) this.#observer.onStreamClosed(this.#kind);
    for (const release of this.#releases ?? []) release();
  }

  /** Most exchanges are no streams and hold nothing. */
  #atClose(release: () => void): void {
    (this.#releases ??= []).push(release);
  }
}

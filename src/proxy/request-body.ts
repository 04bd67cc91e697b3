/** Collects the body of a request that the sidecar reads itself: short ones only (invariant 8). */
import type { Cancel, Clock } from '../clock.ts';
import { BodyReader, BROKEN_BODY, type BodySink } from '../http/body-reader.ts';
import type { IncomingRequestListener, IncomingRequest } from '../http/incoming-request.ts';

interface CollectOptions {
  readonly maxBytes: number;
  /** How long the body may take, in ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** `too-long`: over `maxBytes`; `late`: over `timeoutMs`; `broken`: not framed as its head says. */
type Collected = Buffer | 'too-long' | 'late' | 'broken';

const NO_TRAILERS = { maxBytes: 8_192, maxFields: 64, forbidden: new Set<string>() };

/**
 * Calls `onBody` once, or `onGone` if the client disconnects first. Until then this is the listener of
 * the incoming request; afterwards the caller must set its own again.
 */
export function collectBody(
  incoming: IncomingRequest,
  options: CollectOptions,
  onBody: (body: Collected) => void,
  onGone: () => void,
): void {
  new BodyCollector(incoming, options, onBody, onGone).start();
}

class BodyCollector implements IncomingRequestListener, BodySink {
  readonly #incoming: IncomingRequest;
  readonly #options: CollectOptions;
  readonly #onBody: (body: Collected) => void;
  readonly #onGone: () => void;
  readonly #reader = new BodyReader(NO_TRAILERS);
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #isOver = false;
  #cancelTimer: Cancel | undefined;

  constructor(
    incoming: IncomingRequest,
    options: CollectOptions,
    onBody: (body: Collected) => void,
    onGone: () => void,
  ) {
    this.#incoming = incoming;
    this.#options = options;
    this.#onBody = onBody;
    this.#onGone = onGone;
  }

  start(): void {
    const incoming = this.#incoming;
    const { isChunked, contentLength } = incoming.head;
    this.#reader.begin(isChunked ? 'chunked' : 'length', contentLength ?? 0);
    this.#reader.decodes = true;
    const early = incoming.takeEarly();
    if (early) this.onRequestBody(early);
    if (this.#isOver) return;
    if (incoming.isBodyComplete) {
      this.onRequestEnd();
      return;
    }
    const { clock, timeoutMs } = this.#options;
    this.#cancelTimer = clock.after(timeoutMs, () => this.#finish('late'));
    incoming.listen(this);
    incoming.readBody();
  }

  onRequestBody(bytes: Buffer): void {
    if (this.#isOver) return;
    const end = this.#reader.read(bytes, 0, bytes.length, this);
    if (end === BROKEN_BODY) this.#finish('broken');
    else if (this.#bytes > this.#options.maxBytes) this.#finish('too-long');
  }

  onBodyBytes(bytes: Buffer, start: number, end: number): void {
    this.#bytes += end - start;
    if (this.#bytes <= this.#options.maxBytes) this.#chunks.push(bytes.subarray(start, end));
  }

  onRequestEnd(): void {
    this.#finish(Buffer.concat(this.#chunks));
  }

  onMalformedBody(): void {
    this.#finish('broken');
  }

  onClientWritable(): void {
    // Nothing is written yet.
  }

  onClientDisconnected(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTimer?.();
    this.#onGone();
  }

  #finish(body: Collected): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#cancelTimer?.();
    this.#onBody(body);
  }
}

/**
 * The body of a request on its way to an upstream: no faster than the upstream takes it, and at the same time
 * as the response. Only for a body that has not all come with the head.
 */
import type { IncomingRequest } from './incoming-request.ts';
import type { UpstreamRequest } from './upstream-request.ts';

export class RequestBodyPipe {
  readonly #incoming: IncomingRequest;
  #call: UpstreamRequest | undefined;
  /** What the upstream has not taken yet. */
  #unsent: Buffer[] | undefined;
  #isUpstreamReady = false;
  /** The upstream takes no more of it: it is read and dropped. */
  #isUnwanted = false;
  #isWhole = true;

  constructor(incoming: IncomingRequest) {
    this.#incoming = incoming;
  }

  /** Nothing of it was written or dropped, so it can be sent again. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Nothing more of it has to be passed on. */
  get isOver(): boolean {
    return this.#isUnwanted || (this.#incoming.isBodyComplete && this.#unsent === undefined);
  }

  /** The request was sent, or is on its way. Whether the end of the body is passed on now. */
  begin(call: UpstreamRequest): boolean {
    this.#call = call;
    this.#isUpstreamReady = call.wasSent && call.wasWritable;
    this.#isUnwanted = false;
    if (!this.#incoming.isReadingBody) this.#incoming.readBody();
    return this.#flow();
  }

  /** More of it has come. */
  push(bytes: Buffer): void {
    if (this.#isUnwanted) {
      // Dropped bytes can't be sent a second time.
      this.#isWhole = false;
      return;
    }
    if (!this.#isUpstreamReady || this.#unsent !== undefined) {
      (this.#unsent ??= []).push(bytes);
      this.#incoming.pauseBody();
      return;
    }
    if (!this.#write(bytes)) {
      this.#isUpstreamReady = false;
      this.#incoming.pauseBody();
    }
  }

  /** All of it has come. Whether its end is passed on now. */
  end(): boolean {
    if (this.#unsent !== undefined) return false;
    this.#call?.endBody();
    return true;
  }

  /** Whether the end of the body is passed on now. */
  onUpstreamWritable(): boolean {
    this.#isUpstreamReady = true;
    return this.#flow();
  }

  #flow(): boolean {
    if (!this.#isUpstreamReady) return false;
    const unsent = this.#unsent;
    this.#unsent = undefined;
    for (const bytes of unsent ?? []) {
      if (!this.#write(bytes)) this.#isUpstreamReady = false;
    }
    if (unsent && this.#incoming.isBodyComplete) return this.end();
    if (this.#isUpstreamReady) this.#incoming.resumeBody();
    return false;
  }

  /** Written bytes are not kept, so they can't be sent again. */
  #write(bytes: Buffer): boolean {
    this.#isWhole = false;
    return this.#call?.write(bytes) ?? true;
  }

  /** The upstream takes no more of it. */
  drop(): void {
    this.#isUnwanted = true;
    this.#unsent = undefined;
    this.#incoming.resumeBody();
  }

  /** The response has ended: what is left is not sent. */
  discard(): void {
    this.#unsent = undefined;
  }

  /** What the upstream has not taken yet; it is not sent any more. */
  take(): readonly Buffer[] {
    const unsent = this.#unsent ?? [];
    this.#unsent = undefined;
    return unsent;
  }
}

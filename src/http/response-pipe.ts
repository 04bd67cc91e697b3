/**
 * Pipes one request to an upstream and its response to the client, both at the same time, with backpressure
 * and aborts both ways. It knows no sessions: its owner decides what goes out, and when.
 *
 *   SENDING ─head─> HOLDING (the owner commits something) ─committed─> FLOWING ─both complete─> DONE
 *      │  └─────────────────────────────────────────────────────────────^ │ └─body was inspected
 *      │                                                                  │    and holds again
 *      └─ error ─> the owner responds, or sends it again                  └─ error ─> cut: DONE
 *      └─ 101 ─> TUNNEL
 */
import { ChangedBody, type ChangedBodyOwner } from './changed-body.ts';
import type { IncomingRequestListener, IncomingRequest } from './incoming-request.ts';
import type { MalformedRequest } from './request-head.ts';
import { type OutgoingResponse, type PipeOwner, isHarmlessToRepeat } from './pipe-owner.ts';
import { RequestBodyPipe } from './request-body-pipe.ts';
import {
  formatInterim,
  formatResponseHead,
  formatUpgrade,
  formOf,
  isStreamed,
  hasNoBody,
  type ParsedResponseHead,
} from './response-head.ts';
import type { BufferOwnership } from './socket.ts';
import { PipeTunnel } from './tunnel.ts';
import {
  UpstreamError,
  type ResponseHandler,
  type SerializedRequest,
  type UpstreamRequest,
  type UpstreamTunnel,
} from './upstream-request.ts';
import type { UpstreamPool } from './upstream-pool.ts';

export class ResponsePipe implements ResponseHandler, IncomingRequestListener, ChangedBodyOwner {
  readonly #incoming: IncomingRequest;
  readonly #owner: PipeOwner;
  readonly #pool: UpstreamPool;
  readonly #request: SerializedRequest;
  /** Undefined if all of it goes out with the head. */
  readonly #requestBody: RequestBodyPipe | undefined;
  /** Undefined while the body of the response just passes. */
  #changedBody: ChangedBody | undefined;
  #tunnel: PipeTunnel | undefined;
  #state: 'sending' | 'holding' | 'flowing' | 'tunnel' | 'done' = 'sending';
  #call: UpstreamRequest | undefined;
  #isResponseComplete = false;
  /** What became of it, if it was sent once more. */
  #firstTry: 'not-sent' | 'maybe-sent' | undefined;

  constructor(
    incoming: IncomingRequest,
    pool: UpstreamPool,
    request: SerializedRequest,
    owner: PipeOwner,
  ) {
    this.#incoming = incoming;
    this.#pool = pool;
    this.#request = request;
    this.#owner = owner;
    this.#requestBody = request.isComplete ? undefined : new RequestBodyPipe(incoming);
  }

  get isOver(): boolean {
    return this.#state === 'done';
  }

  /** Begins, and listens to the request from now on. */
  start(): void {
    this.#incoming.listen(this);
    this.#incoming.writeContinue();
    this.#send(false);
  }

  #send(isFresh: boolean): void {
    this.#call = this.#pool.send(this.#request, this, isFresh);
    if (this.#requestBody?.begin(this.#call)) this.#finishIfComplete();
  }

  /** The response is not needed any more. Calls nothing of the owner. */
  abort(): void {
    this.#state = 'done';
    this.#changedBody = undefined;
    this.#requestBody?.discard();
    this.#call?.abort();
    this.#tunnel?.abort();
  }

  /** Ends a response or a tunnel on both sides, never as if it were complete. The owner gets no call. */
  abortBoth(): void {
    this.abort();
    if (this.#tunnel?.closeClient()) return;
    this.#incoming.flush();
    this.#incoming.cut();
  }

  /** Ends the call as if the upstream had failed. */
  fail(code: UpstreamError['code'], message: string): void {
    if (this.#state !== 'sending') return;
    const wasNotSent = this.#call?.wasSent !== true;
    this.#call?.abort();
    this.onError(new UpstreamError(code, message, { wasNotSent }));
  }

  /** What was read of the body, for another upstream. Undefined if some of it is sent or lost. */
  takeBody(): Buffer | undefined {
    if (this.#requestBody?.isWhole === false || this.#firstTry === 'maybe-sent') return undefined;
    const unsent = this.#requestBody?.take() ?? [];
    return Buffer.concat(this.#request.body ? [this.#request.body, ...unsent] : unsent);
  }

  onRequestBody(bytes: Buffer): void {
    this.#requestBody?.push(bytes);
  }

  onRequestEnd(): void {
    if (this.#requestBody?.end()) this.#finishIfComplete();
  }

  onMalformedBody(why: MalformedRequest): void {
    this.abort();
    this.#owner.onMalformedBody(why);
  }

  onClientWritable(): void {
    if (this.#isFlowing) this.#call?.resume();
  }

  /** What comes is passed on at once. */
  get #isFlowing(): boolean {
    return this.#state === 'flowing' && this.#changedBody?.isHeld !== true;
  }

  onClientDisconnected(): void {
    const wasOver = this.isOver;
    this.abort();
    if (wasOver) return;
    // The client has its whole response. Only the rest of its own body is missing.
    if (this.#isResponseComplete) this.#owner.onFinished();
    else this.#owner.onClientDisconnected();
  }

  onUpstreamWritable(): void {
    if (this.#requestBody?.onUpstreamWritable()) this.#finishIfComplete();
  }

  onBodyUnwanted(): void {
    this.#requestBody?.drop();
    if (!this.isOver) this.#finishIfComplete();
  }

  onInterim(head: ParsedResponseHead): void {
    // A client that waits for its 100 (Continue) has it already.
    if (this.#state !== 'sending' || head.statusCode === 100) return;
    const fields = this.#owner.onInterim(head);
    if (fields) this.#incoming.writeInterim(formatInterim(head, fields));
  }

  onHead(head: ParsedResponseHead): void {
    const passage = this.#owner.onResponse(head);
    if (passage instanceof Promise) {
      this.#changedBody = new ChangedBody(this.#incoming, this);
      this.#changedBody.holdHead(passage, head.isChunked, (released) => this.#flow(head, released));
    } else this.#flow(head, passage);
  }

  #flow(head: ParsedResponseHead, passage: OutgoingResponse | undefined): void {
    if (!passage) {
      this.abort();
      return;
    }
    const { rawHeaders, inspector } = passage;
    const incoming = this.#incoming;
    const isStream = isStreamed(head, rawHeaders, incoming.head);
    const form = formOf(head, isStream, incoming.head, inspector !== undefined);
    this.#state = 'flowing';
    const isBodiless = hasNoBody(incoming.head.method, head.statusCode);
    if (!isBodiless && (form !== 'as-it-came' || inspector !== undefined)) {
      this.#changedBody ??= new ChangedBody(incoming, this);
      this.#changedBody.begin(form, inspector);
    }
    if (form !== 'as-it-came' && head.isChunked) this.#call?.decodeBody();
    const text = formatResponseHead(head, rawHeaders, isStream, incoming.head);
    this.#owner.onResponseStarted(head.statusCode, isStream, head);
    if (!head.isPersistent) incoming.endBodyEarly();
    incoming.writeHead(text, isStream, form === 'plain');
  }

  onResponseBody(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    if (this.isOver) return true;
    return this.#changedBody === undefined
      ? this.#incoming.write(bytes, start, end, ownership)
      : this.#changedBody.write(bytes, start, end, ownership);
  }

  onFramingKept(dataLeft: number): void {
    this.#changedBody?.keepFraming(dataLeft);
  }

  onReadDone(): void {
    if (this.#isFlowing) this.#incoming.flush();
  }

  onResponseEnd(): void {
    if (this.isOver || this.#changedBody?.end() === false) return;
    this.#isResponseComplete = true;
    const isBodyOver = this.#requestBody?.isOver ?? this.#incoming.isBodyComplete;
    if (isBodyOver || this.#call?.isUpstreamGone === true) this.#finishIfComplete();
    else this.#incoming.awaitBody();
  }

  /** The request's body is over. */
  #finishIfComplete(): void {
    if (!this.#isResponseComplete) return;
    this.#state = 'done';
    this.#requestBody?.discard();
    this.#incoming.end();
    this.#owner.onFinished();
  }

  onHeld(): void {
    if (this.#state === 'sending') this.#state = 'holding';
    this.#call?.pause();
  }

  onInspected(): void {
    this.#call?.keepFraming();
  }

  onReleased(): void {
    this.#incoming.flush();
    this.#call?.resume();
  }

  whenResolved<Value>(until: Promise<Value>, goOn: (value: Value) => void): void {
    until
      .then((value) => {
        if (!this.isOver) goOn(value);
      })
      .catch((error: unknown) => {
        this.#owner.onFault(error);
        this.onFault();
      });
  }

  onError(error: UpstreamError): void {
    if (this.isOver || this.#triesAgain(error)) return;
    const hasBegun = this.#state === 'flowing' || this.#state === 'tunnel';
    this.#state = 'done';
    if (hasBegun) {
      // The response must not end as if it were complete (RFC 9112 §8).
      this.#incoming.flush();
      this.#incoming.cut();
      this.#owner.onResponseAborted(error);
    } else {
      this.#changedBody = undefined;
      this.#owner.onFailed(error);
      this.#requestBody?.discard();
    }
  }

  /** Once, and only while nothing of the response or of the rest of the body has passed. */
  #triesAgain(error: UpstreamError): boolean {
    if (this.#state !== 'sending' || this.#firstTry !== undefined) return false;
    if (this.#requestBody?.isWhole === false) return false;
    if (!isHarmlessToRepeat(error, this.#request.method)) return false;
    this.#firstTry = error.wasNotSent ? 'not-sent' : 'maybe-sent';
    this.#send(true);
    return true;
  }

  onFault(): void {
    this.abort();
    this.#incoming.destroy();
    this.#owner.onFault();
  }

  onUpgrade(head: ParsedResponseHead, upstream: UpstreamTunnel, rest: Buffer): void {
    const tunnel = new PipeTunnel(upstream, () => {
      this.#state = 'done';
      this.#owner.onFinished();
    });
    this.#tunnel = tunnel;
    const open = (passage: OutgoingResponse | undefined): void => {
      if (!passage) {
        this.abort();
        return;
      }
      this.#state = 'tunnel';
      this.#owner.onTunnel(head.statusCode);
      tunnel.open(this.#incoming, formatUpgrade(head, passage.rawHeaders), rest);
    };
    const passage = this.#owner.onUpgradeResponse(head);
    if (passage instanceof Promise) {
      this.#state = 'holding';
      this.whenResolved(passage, open);
    } else open(passage);
  }
}

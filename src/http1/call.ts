/**
 * One request and its answer. It outlives its connection's interest in it: what its receiver does
 * after the end reaches nothing, least of all the next request on that connection.
 */
import type { Readable } from 'node:stream';
import type { AnswerSink, AnswerSource, UpstreamRequest } from '../proxy/upstream.ts';
import { formatRequestHead, type RequestHead } from './request-head.ts';

/** What carries a call, as the call sees it. */
export interface Carrier {
  pause(): void;
  resume(): void;
  abort(reason: Error): void;
}

export class Call implements AnswerSource {
  readonly method: string;
  readonly upgrade: string | undefined;
  readonly sink: AnswerSink;
  /** Until they are sent: an answer may take hours, and need not hold on to its question. */
  head: RequestHead | undefined;
  body: Buffer | Readable | null;
  #carrier: Carrier | undefined;
  #isPaused = false;

  /** Throws MalformedRequest. */
  constructor(request: UpstreamRequest, sink: AnswerSink) {
    this.head = formatRequestHead(request);
    this.method = request.method;
    this.upgrade = request.upgrade;
    this.body = request.body;
    this.sink = sink;
    // It may fail while a connection is still being made; whoever sends it will see that.
    if (this.body && !Buffer.isBuffer(this.body)) this.body.on('error', ignore);
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Set while a connection carries it. */
  set carrier(carrier: Carrier | undefined) {
    this.#carrier = carrier;
  }

  pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#carrier?.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#carrier?.resume();
  }

  abort(reason: Error): void {
    this.#carrier?.abort(reason);
  }

  /** It will never be carried, or not any further. A body that is a stream is destroyed. */
  fail(error: Error): void {
    destroyBody(this.body);
    this.sink.onError(error);
  }
}

/** Nobody will read it. */
export function destroyBody(body: Buffer | Readable | null): void {
  if (body && !Buffer.isBuffer(body)) body.destroy();
}

function ignore(): void {
  // A stream's error with no listener at all would end the process.
}

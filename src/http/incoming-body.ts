/**
 * The body of the request that a connection serves. It goes to the request, or it is read and dropped because
 * the response is complete without it.
 */
import type { Socket } from 'node:net';
import { BodyReader, type BodySink, type Framing } from './body-reader.ts';
import type { TrailerOptions } from './chunks.ts';
import type { IncomingRequest } from './incoming-request.ts';
import { DRAINED_BODY_BYTES, type Limits } from './limits.ts';

export interface IncomingBodyOptions {
  readonly trailers: TrailerOptions;
  readonly limits: Limits;
}

export class IncomingBody implements BodySink {
  /** The request does not take more at the moment. */
  isPaused = true;
  readonly #socket: Socket;
  readonly #options: IncomingBodyOptions;
  #reader: BodyReader | undefined;
  #incoming: IncomingRequest | undefined;
  #isDropped = false;
  #droppedBytes = 0;

  constructor(socket: Socket, options: IncomingBodyOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  begin(incoming: IncomingRequest, framing: Framing, length: number): void {
    this.isPaused = true;
    this.#incoming = incoming;
    this.#isDropped = false;
    this.#droppedBytes = 0;
    this.#reader ??= new BodyReader(this.#options.trailers);
    this.#reader.begin(framing, length);
  }

  /** The request is over: the rest is dropped, or not read at all. */
  detach(drops: boolean): void {
    this.#incoming = undefined;
    this.#isDropped = drops;
  }

  get isComplete(): boolean {
    return this.#reader?.isComplete === true;
  }

  /** What is left is short enough to be dropped, as far as its head says. */
  get mayBeDropped(): boolean {
    const reader = this.#reader;
    return reader?.framing !== 'length' || reader.left <= DRAINED_BODY_BYTES;
  }

  /** Whether more of it is to be read from the socket. */
  get isReading(): boolean {
    const incoming = this.#incoming;
    if (incoming === undefined) return true;
    return incoming.isReadingBody ? !this.isPaused : !this.isFull;
  }

  /** Nobody takes it yet: it waits in the request up to a limit, and beyond that in the kernel. */
  get isFull(): boolean {
    return (this.#incoming?.earlyBytes ?? 0) >= this.#options.limits.connectionBufferBytes;
  }

  /** Returns the position behind the body, or BROKEN_BODY. */
  read(bytes: Buffer, from: number, end: number): number {
    return this.#reader?.read(bytes, from, end, this) ?? from;
  }

  onBodyBytes(bytes: Buffer, start: number, end: number): void {
    if (this.#isDropped) {
      this.#droppedBytes += end - start;
      if (this.#droppedBytes > DRAINED_BODY_BYTES) this.#socket.destroy();
      return;
    }
    const isWhole = start === 0 && end === bytes.length;
    this.#incoming?.deliver(isWhole ? bytes : bytes.subarray(start, end));
  }
}

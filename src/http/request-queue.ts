/**
 * What a client has sent and is not parsed yet: the beginning of a head, or requests that came before the
 * response to the one ahead of them. Parses one head at a time.
 */
import type { Socket } from 'node:net';
import { type BufferBudget, UnparsedBytes } from './buffers.ts';
import { LF } from './head-text.ts';
import type { Limits } from './limits.ts';
import {
  HEAD_TIMEOUT,
  NO_MEMORY_FOR_HEAD,
  type MalformedRequest,
  type ParsedRequestHead,
} from './request-head.ts';
import type { RequestParser } from './request-parser.ts';
import { MAX_WAITING_BYTES } from './socket.ts';

export interface RequestQueueOptions {
  readonly parser: RequestParser;
  readonly limits: Limits;
  readonly budget: BufferBudget;
}

/** Receives a head within the call that completes it. */
export interface HeadSink {
  /** The body, if there is one, begins at `bodyStart` of `bytes`. */
  onHead(head: ParsedRequestHead, bytes: Buffer, bodyStart: number): void;
  onMalformedHead(why: MalformedRequest, bytes: Buffer): void;
}

export class RequestQueue {
  readonly #socket: Socket;
  readonly #sink: HeadSink;
  readonly #options: RequestQueueOptions;
  readonly #kept = new UnparsedBytes();
  /** The kept bytes came behind a request, and are not parsed yet. */
  #hasNews = false;

  constructor(socket: Socket, sink: HeadSink, options: RequestQueueOptions) {
    this.#socket = socket;
    this.#sink = sink;
    this.#options = options;
  }

  get keptBytes(): number {
    return this.#kept.length;
  }

  get hasNews(): boolean {
    return this.#hasNews;
  }

  get isFull(): boolean {
    return this.#kept.length >= this.#options.limits.connectionBufferBytes;
  }

  /**
   * The client has not read its earlier responses. The next request waits until it has, or a client
   * that asks and never reads would fill the memory.
   */
  get #isBacklogged(): boolean {
    return this.#socket.writableLength >= MAX_WAITING_BYTES;
  }

  /** Keeps bytes without parsing them. */
  keep(bytes: Buffer): void {
    if (bytes.length > 0) this.#kept.append(bytes);
  }

  /** What is kept; it is not kept any more. */
  take(): Buffer | undefined {
    const all = this.#kept.all;
    this.#kept.drop();
    this.#hasNews = false;
    return all;
  }

  /** A request may be parsed from now on. Whether something is kept: {@link parseKept} is due. */
  open(): boolean {
    this.#hasNews = !this.#kept.isEmpty;
    return this.#hasNews;
  }

  /** Parses the head that has been kept, unless it must wait. */
  parseKept(): void {
    if (!this.#hasNews || this.#isBacklogged) return;
    const kept = this.take();
    if (kept) this.#parse(kept);
  }

  /** Reads more of a head. Whether the bytes are kept for later instead, unparsed. */
  read(bytes: Buffer): boolean {
    if (this.#isBacklogged) this.#hasNews = true;
    if (this.#hasNews) {
      this.#kept.append(bytes);
      return true;
    }
    if (this.#kept.isEmpty) this.#parse(bytes);
    else {
      const all = this.#kept.append(bytes);
      // A head is parsed once per line, and not once per packet.
      if (bytes.includes(LF) || all.length > this.#options.limits.headBytes) this.#parse(all);
    }
    return false;
  }

  /** `bytes` are all that is kept of the head, if anything is. */
  #parse(bytes: Buffer): void {
    const parsed = this.#options.parser.parse(bytes, 0, bytes.length);
    if (parsed === undefined) {
      if (this.#kept.isEmpty) this.#kept.append(bytes);
      return;
    }
    this.#kept.drop();
    if ('status' in parsed) this.#sink.onMalformedHead(parsed, bytes);
    else this.#sink.onHead(parsed.head, bytes, parsed.end);
  }

  /** Why a head that has begun is not waited for any longer. */
  overdue(waitedMs: number): MalformedRequest | undefined {
    if (this.#hasNews || this.#kept.isEmpty) return undefined;
    if (waitedMs >= this.#options.limits.headTimeoutMs) return HEAD_TIMEOUT;
    return this.#options.budget.isExhausted ? NO_MEMORY_FOR_HEAD : undefined;
  }
}

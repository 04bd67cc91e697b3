/**
 * Hands the answers on one connection on to their receivers, as fast as these take them.
 *
 *   idle --begin--> delivering --the receiver pauses--> holding what was read --resume--> delivering
 *     ^                 | |
 *     |                 | '--the server has ended--> delivering what was read before
 *     '-----------------'--whole, switched to another protocol, or broken (one event each), or stop
 */
import type { UpstreamErrorCode } from '../proxy/upstream.ts';
import type { Call } from './call.ts';
import { MalformedAnswer } from './malformed.ts';
import { ResponseParser } from './response-parser.ts';
import type { ByteSource } from './sockets.ts';

export interface DeliveryEvents {
  /** The head has come; the receiver is told next. */
  onHead(): void;
  /** The answer is whole; telling the receiver is left to whoever hears this. */
  onWhole(call: Call, rawTrailers: string[]): void;
  /** The connection speaks another protocol from here on; what was read of it is in `rest`. */
  onSwitched(call: Call, answer: SwitchingAnswer): void;
  onBroken(code: UpstreamErrorCode, message: string, cause?: Error): void;
}

export interface SwitchingAnswer {
  readonly statusCode: number;
  readonly rawHeaders: string[];
  readonly rest: Buffer;
}

export class Delivery {
  readonly #source: ByteSource;
  readonly #events: DeliveryEvents;
  readonly #parser: ResponseParser;
  #call: Call | undefined;
  #isDelivering = false;
  /** The server has ended the connection, in order or not. */
  #endedBy: Error | 'end' | undefined;

  constructor(source: ByteSource, maxHeadBytes: number, events: DeliveryEvents) {
    this.#source = source;
    this.#events = events;
    this.#parser = new ResponseParser(maxHeadBytes);
  }

  get awaitsHead(): boolean {
    return this.#parser.isInHead;
  }

  /** After an answer: whether the next one would be that to the next request. */
  get isInStep(): boolean {
    return this.#parser.isPersistent && !this.#parser.hasRest && this.#endedBy === undefined;
  }

  /** What the last answer's `Keep-Alive` said. */
  get keepAlive(): string | undefined {
    return this.#parser.keepAlive;
  }

  /** What comes from now on is the answer to this call. */
  begin(call: Call): void {
    this.#call = call;
    this.#parser.begin(call);
  }

  /** Nothing more is handed on. */
  stop(): void {
    this.#call = undefined;
  }

  take(bytes: Buffer, byteCount: number): void {
    this.#parser.feed(bytes, byteCount);
    this.deliver();
    this.#source.onRead(byteCount, this.#parser.isInBody);
  }

  /** Nothing more will come. */
  endBy(reason: Error | 'end'): void {
    this.#endedBy ??= reason;
    this.deliver();
  }

  /** Goes on until there is no more or the receiver pauses. */
  deliver(): void {
    const call = this.#call;
    if (!call || this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      while (this.#call === call && !call.isPaused && this.#deliverNext(call));
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error;
      this.#events.onBroken('malformed-answer', error.message);
    } finally {
      this.#isDelivering = false;
    }
    this.#parser.release();
    if (this.#endedBy && this.#call === call && !call.isPaused) this.#finish(call, this.#endedBy);
  }

  /** Returns whether to go on. */
  #deliverNext(call: Call): boolean {
    const parser = this.#parser;
    switch (parser.next()) {
      case 'more':
        return false;
      case 'information':
        call.sink.onInformation(parser.statusCode, parser.rawHeaders);
        return true;
      case 'head':
        this.#events.onHead();
        call.sink.onHead(parser.statusCode, parser.rawHeaders);
        return true;
      case 'data':
        this.#source.handOn(parser.bytes, parser.dataStart, parser.dataEnd, call.sink);
        return true;
      case 'end':
        this.#events.onWhole(call, parser.rawTrailers);
        return false;
      case 'upgrade':
        this.#events.onSwitched(call, this.#switchingAnswer());
        return false;
    }
  }

  #switchingAnswer(): SwitchingAnswer {
    const { statusCode, rawHeaders } = this.#parser;
    return { statusCode, rawHeaders, rest: this.#parser.takeRest() };
  }

  /** What the end means for the answer, now that all that came before it is delivered. */
  #finish(call: Call, endedBy: Error | 'end'): void {
    if (endedBy !== 'end') {
      this.#events.onBroken('connection-lost', 'the connection broke', endedBy);
    } else if (this.#parser.finish()) {
      this.#events.onWhole(call, this.#parser.rawTrailers);
    } else {
      this.#events.onBroken('connection-lost', 'the connection ended before the answer was whole');
    }
  }
}

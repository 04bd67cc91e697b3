/**
 * One upstream's answer on its way to one client: head, body and trailers, with backpressure and
 * aborts both ways. Knows nothing of sessions; what goes out, and when, is asked of `reveal`.
 *
 *   waiting --head--> holding (a binding is being committed) --committed--> flowing --end--> done
 *      |                  |                                                   |
 *      '------ error -----'--> failed before the head: the caller answers     '--error--> cut:
 *                                                              the client sees the stream break
 */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { BodyTap, Lesson, TappedChunk } from '../affinity/learn.ts';
import { isHeader } from '../affinity/raw-headers.ts';
import { headerValue, responseHeaders, withoutNamed, type RawHeaders } from './headers.ts';
import type { HeadFlusher, LateHead } from './head-flusher.ts';
import type { AnswerSink, AnswerSource } from './upstream.ts';

/** How an answer's head goes out. */
export interface RevealedHead {
  readonly rawHeaders: readonly string[];
  readonly tap: BodyTap | undefined;
}

export type Revealed = RevealedHead | Promise<RevealedHead> | undefined;

/** What the app said when it switched protocols. */
export interface UpgradeAnswer {
  readonly statusCode: number;
  /** The protocol it has chosen. */
  readonly upgrade: string;
  readonly rawHeaders: string[];
}

export interface RelayOwner {
  /** The client is to ask the next time on another connection. */
  readonly endsConnection: boolean;
  /** The head has come; a promise holds it back. Undefined: the owner will answer by itself. */
  reveal(statusCode: number, rawHeaders: string[]): Revealed;
  /** The body taught an id; what reveals it goes out when the promise resolves. */
  onLesson(lesson: Lesson): Promise<void>;
  /** The head goes out: `isStream` if its length is unknown. */
  onFlowing(statusCode: number, isStream: boolean): void;
  /** Which trailers go out. */
  passTrailers(rawTrailers: RawHeaders): RawHeaders;
  /** The app has agreed to another protocol; the connection is the owner's from now on. */
  onUpgraded(answer: UpgradeAnswer, upstream: Duplex): void;
  /** No head has come: there is still an answer to give. */
  onFailedBeforeHead(error: Error): void;
  /** The head is out, the rest will not come: the client's stream was broken off. */
  onCut(error: Error): void;
}

const EMPTY = Buffer.alloc(0);
const TRAILER: ReadonlySet<string> = new Set(['trailer']);
/** Bodies up to this length are cheaper to copy into one text with their head than to write beside it. */
const MAX_TEXT_BYTES = 16_384;

export class Relay implements AnswerSink, LateHead {
  readonly #res: ServerResponse;
  readonly #owner: RelayOwner;
  readonly #flusher: HeadFlusher;
  #state: 'waiting' | 'holding' | 'flowing' | 'done' = 'waiting';
  #source: AnswerSource | undefined;
  #tap: BodyTap | undefined;
  /** Bytes of a body of known length that have not come yet; undefined for a stream. */
  #remaining: number | undefined;
  #mayTrail = false;
  /** Ours: nothing else can be answered, though it may wait for the body that came with it. */
  #isHeadWritten = false;
  #isHeadOnTheWire = false;
  /** What arrived while the head was held. */
  #held: Buffer[] | undefined;
  #endedWhileHeld: readonly string[] | undefined;
  #abortReason: Error | undefined;

  constructor(res: ServerResponse, owner: RelayOwner, flusher: HeadFlusher) {
    this.#res = res;
    this.#owner = owner;
    this.#flusher = flusher;
  }

  /** The client has left, or nobody wants the answer any more. */
  abort(reason: Error): void {
    this.#abortReason = reason;
    this.#source?.abort(reason);
  }

  onSent(source: AnswerSource): void {
    this.#source = source;
    if (this.#abortReason) source.abort(this.#abortReason);
  }

  onUpgrade(statusCode: number, rawHeaders: string[], socket: Duplex): void {
    this.#state = 'done';
    // Between this moment and the tunnel there may be a commit; an error must find a listener.
    socket.on('error', () => socket.destroy());
    const upgrade = headerValue(rawHeaders, 'upgrade') ?? '';
    this.#owner.onUpgraded(
      { statusCode, upgrade, rawHeaders: responseHeaders(rawHeaders) },
      socket,
    );
  }

  onHead(statusCode: number, rawHeaders: string[]): void {
    this.#guarded(() => this.#takeHead(statusCode, rawHeaders));
  }

  #takeHead(statusCode: number, rawHeaders: string[]): void {
    const revealed = this.#owner.reveal(statusCode, responseHeaders(rawHeaders));
    if (!revealed) {
      this.#state = 'done';
      this.#source?.abort(new Error('answered by the sidecar instead'));
      return;
    }
    if (!(revealed instanceof Promise)) {
      this.#startFlowing(statusCode, revealed);
      return;
    }
    this.#state = 'holding';
    this.#source?.pause();
    void revealed.then((head) => this.#guarded(() => this.#release(statusCode, head)));
  }

  /** An answer that node:http will not send is a broken one; it must end nothing but itself. */
  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      const reason = error instanceof Error ? error : new Error(String(error));
      this.#state = this.#isHeadWritten ? 'flowing' : 'waiting';
      this.onError(reason);
      this.#source?.abort(reason);
    }
  }

  /** What is held or looked at is kept, and its memory left to the collector. */
  onData(chunk: Buffer, release?: () => void): void {
    if (this.#state === 'holding') (this.#held ??= []).push(chunk);
    else if (this.#tap) this.#watch(this.#tap, chunk);
    else this.#write(chunk, release);
  }

  onEnd(rawTrailers: RawHeaders): void {
    if (this.#state === 'holding') this.#endedWhileHeld = rawTrailers;
    else this.#finish(rawTrailers);
  }

  onError(error: Error): void {
    if (this.#state === 'done') return;
    const wasFlowing = this.#state === 'flowing' || this.#isHeadWritten;
    this.#state = 'done';
    if (!wasFlowing) {
      this.#owner.onFailedBeforeHead(error);
      return;
    }
    this.#owner.onCut(error);
    // The stream must not end as if it were complete (RFC 9112 §8).
    this.#res.destroy();
  }

  #release(statusCode: number, head: RevealedHead): void {
    if (this.#state !== 'holding') return;
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#startFlowing(statusCode, head);
    this.#goOn(held);
  }

  /** What came meanwhile; the body may teach an id too, and then the rest waits again. */
  #goOn(held: readonly Buffer[]): void {
    for (const chunk of held) this.onData(chunk);
    if (this.#state === 'holding') return;
    if (this.#endedWhileHeld) this.#finish(this.#endedWhileHeld);
    else if (!this.#res.writableNeedDrain) this.#source?.resume();
  }

  #startFlowing(statusCode: number, { rawHeaders, tap }: RevealedHead): void {
    this.#state = 'flowing';
    this.#tap = tap;
    const length = headerValue(rawHeaders, 'content-length');
    const isStream = length === undefined && mayHaveBody(this.#res, statusCode);
    this.#remaining = isStream ? undefined : Number(length ?? 0);
    this.#mayTrail = isStream && this.#res.req.httpVersion !== '1.0';
    this.#owner.onFlowing(statusCode, isStream);
    this.#res.writeHead(statusCode, this.#headersOut(rawHeaders) as string[]);
    this.#isHeadWritten = true;
    // A head whose body has come with it leaves in one write with it; any other leaves now.
    if (isStream) this.#flushHead();
    else this.#flusher.add(this);
  }

  /** node:http throws at a `Trailer` that announces what can't follow: only chunks have trailers. */
  #headersOut(rawHeaders: RawHeaders): RawHeaders {
    const isVain = !this.#mayTrail && headerValue(rawHeaders, 'trailer') !== undefined;
    const headers = isVain ? withoutNamed(rawHeaders, TRAILER) : rawHeaders;
    return this.#owner.endsConnection ? [...headers, 'connection', 'close'] : headers;
  }

  /** An empty write and not `flushHeaders`, which sends latin-1 header values as UTF-8. */
  #flushHead(): void {
    if (this.#isHeadOnTheWire || this.#res.writableEnded) return;
    this.#isHeadOnTheWire = true;
    this.#res.write(EMPTY);
  }

  flushHead(): void {
    if (this.#state === 'flowing') this.#flushHead();
  }

  #write(chunk: Buffer, release?: () => void): void {
    // node:http would make a system call of it.
    if (chunk.byteLength === 0) return;
    this.#isHeadOnTheWire = true;
    if (this.#remaining !== undefined) {
      this.#remaining -= chunk.byteLength;
      if (this.#remaining === 0) {
        this.#end(chunk, release);
        return;
      }
    }
    const isTaken = release
      ? this.#res.write(chunk, (error) => error ?? release())
      : this.#res.write(chunk);
    if (isTaken) return;
    this.#source?.pause();
    this.#res.once('drain', () => this.#source?.resume());
  }

  /** The last bytes. A small body leaves with its head as one latin-1 text: one write, no vector. */
  #end(chunk: Buffer, release?: () => void): void {
    if (chunk.byteLength <= MAX_TEXT_BYTES) this.#res.end(chunk.toString('latin1'), 'latin1');
    else this.#res.end(chunk, release);
  }

  /** An id may be in the first bytes: they are held until it is bound. */
  #watch(tap: BodyTap, chunk: Buffer): void {
    const tapped = tap.push(chunk);
    if (tapped.isDone) this.#tap = undefined;
    this.#passTapped(tapped);
  }

  #passTapped({ out, lesson }: TappedChunk): void {
    if (!lesson) {
      if (out) this.#write(asBuffer(out));
      return;
    }
    this.#state = 'holding';
    this.#source?.pause();
    if (out) (this.#held ??= []).push(asBuffer(out));
    void this.#owner.onLesson(lesson).then(() => this.#guarded(() => this.#releaseTaught()));
  }

  #releaseTaught(): void {
    if (this.#state !== 'holding') return;
    this.#state = 'flowing';
    const [taught, ...later] = this.#held ?? [];
    this.#held = undefined;
    if (taught) this.#write(taught);
    this.#goOn(later);
  }

  #finish(trailers: readonly string[]): void {
    const rest = this.#tap?.end();
    this.#tap = undefined;
    if (rest?.lesson) this.#endedWhileHeld = trailers;
    if (rest) this.#passTapped(rest);
    if (rest?.lesson) return;
    this.#state = 'done';
    if (this.#res.writableEnded) return;
    const passed = this.#mayTrail ? this.#owner.passTrailers(trailers) : [];
    if (passed.length > 0) this.#res.addTrailers(asEntries(passed));
    this.#res.end();
  }

  /**
   * 1xx (RFC 9110 §15.2): of Early Hints the links are passed on, the rest may teach what is not bound
   * yet; 100 is answered by this proxy itself. HTTP/1.0 knows none, and each may be dropped.
   */
  onInformation(statusCode: number, rawHeaders: readonly string[]): void {
    if (this.#res.req.httpVersion === '1.0') return;
    try {
      if (statusCode === 102) this.#res.writeProcessing();
      if (statusCode === 103) this.#res.writeEarlyHints({ link: linksOf(rawHeaders) });
    } catch {
      // node:http takes fewer forms of a link than there are: a hint that it refuses is dropped.
    }
  }
}

/** Each link of each line by itself (RFC 8288 §3), as node:http wants them. */
function linksOf(rawHeaders: readonly string[]): string[] {
  return asEntries(rawHeaders)
    .filter(([name]) => isHeader(name, 'link'))
    .flatMap(([, value]) => value.split(/,\s*(?=<)/));
}

/** Whether a body follows at all (RFC 9112 §6.3). */
function mayHaveBody(res: ServerResponse, statusCode: number): boolean {
  return res.req.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function asEntries(pairs: readonly string[]): [string, string][] {
  const entries: [string, string][] = [];
  for (let i = 0; i + 1 < pairs.length; i += 2) entries.push([pairs[i] ?? '', pairs[i + 1] ?? '']);
  return entries;
}

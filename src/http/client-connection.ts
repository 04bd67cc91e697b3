/**
 * A client's connection: one request at a time. The next head is parsed when the response before it is
 * finished, so a fault of one request never affects another.
 *
 *   HEAD ─ok─> BODY ─end─> WAIT ─response finished─> HEAD
 *     │bad, 408  │bad        │  └─body was not read─> DRAIN ─end─> HEAD
 *     │          │           │101─> TUNNEL ─> closed
 *     └──────────┴─> LINGER <┘ close, FIN, body unfinished
 *                 (half-close, discard at most 8 MB or 3 s) ─> closed
 */
import type { RequestParser } from './request-parser.ts';
import {
  BODY_TIMEOUT,
  HEAD_TIMEOUT,
  NO_MEMORY_FOR_HEAD,
  INVALID_BODY,
  type MalformedRequest,
} from './malformed-request.ts';
import {
  readDirectly,
  resumeReads,
  resetSocket,
  MAX_WAITING_BYTES,
  writeBytes,
  type BufferOwnership,
} from './socket.ts';
import type { BufferAccount, BufferBudget } from './buffers.ts';
import type { Socket } from 'node:net';
import { BodyReader, BROKEN_BODY, type BodySink, type Framing } from './body-reader.ts';
import { LF } from './characters.ts';
import {
  DRAINED_BODY_BYTES,
  HALF_CLOSED_TUNNEL_MS,
  HALF_CLOSE_MS,
  HALF_CLOSE_OLD_MS,
  HALF_CLOSE_PROBES,
  LINGER_BYTES,
  LINGER_MS,
  type Limits,
} from './limits.ts';
import { unreadableHead, type ParsedRequestHead } from './request-head.ts';
import { IncomingRequest, type RequestConnection } from './incoming-request.ts';
import type { Sweep, Sweepable } from './sweep.ts';
import type { TrailerOptions } from './trailers.ts';
import type { TunnelEnd } from './tunnel.ts';

/** What a listener does with its requests. */
export interface RequestHandler {
  /** A head is complete. Must set a listener, or respond within the call. */
  handle(incoming: IncomingRequest): void;
  /** A head is malformed. Must respond within the call, and the connection ends with the response. */
  handleMalformed(incoming: IncomingRequest, why: MalformedRequest): void;
}

/** What the connections of one listener share. */
export interface ListenerContext {
  readonly handler: RequestHandler;
  readonly limits: Limits;
  readonly parser: RequestParser;
  readonly trailers: TrailerOptions;
  readonly budget: BufferBudget;
  readonly sweep: Sweep;
  /** Every connection that is open. */
  readonly connections: Set<ClientConnection>;
  readonly isEnding: () => boolean;
  readonly onClosed: (connection: ClientConnection) => void;
  /** An exception in handling a connection. It has ended that connection and nothing else. */
  readonly onFault: (error: unknown) => void;
}

type State = 'head' | 'body' | 'wait' | 'drain' | 'tunnel' | 'linger' | 'closed';

export class ClientConnection implements RequestConnection, BodySink, Sweepable, TunnelEnd {
  readonly socket: Socket;
  sweepIndex = -1;
  readonly #parts: ListenerContext;
  #account: BufferAccount | undefined;
  #body: BodyReader | undefined;
  #state: State = 'head';
  #incoming: IncomingRequest | undefined;
  /** Received and not parsed yet: the beginning of a head, or what follows a request. */
  #unread: Buffer | undefined;
  #unreadLength = 0;
  /** The kept bytes came behind a request, and are not parsed yet. */
  #hasNews = false;
  #isPaused = false;
  /** The read that arrived after reading was paused. */
  #overdue: Buffer | undefined;
  #isBodyPaused = false;
  #isPumpDue = false;
  /** The client has ended its side. */
  #hasEnded = false;
  /** Since when it waits for a response after that, in ms of the sweep, whatever it reads meanwhile. */
  #endedAt = 0;
  /** How many 102s were sent since, while the client waits for the head of a response. */
  #probeCount = 0;
  /** When what is being waited for began, in ms of the sweep. */
  #since: number;
  #hasServed = false;
  #lingerBytes = 0;
  /** At the last look at a connection that ends not all of its response was written. */
  #hasUnwritten = false;
  /** What the client had taken when it was last looked at, in bytes, and since when it takes no more. */
  #takenBytes = 0;
  #takenAt = 0;
  #tunnel: TunnelEnd | undefined;
  /** The other end of the tunnel has ended its side. */
  #hasTunnelEnded = false;

  constructor(socket: Socket, parts: ListenerContext) {
    this.socket = socket;
    this.#parts = parts;
    parts.connections.add(this);
    parts.sweep.add(this);
    this.#since = parts.sweep.nowMs;
    socket.on('drain', () => this.#guarded(onDrain));
    socket.on('end', () => this.#guarded(onEnd));
    // What follows an error is 'close', which says all.
    socket.on('error', () => undefined);
    socket.on('close', (hadError: boolean) => this.#guarded(onClose, hadError));
    readDirectly(socket, (bytes) => this.#take(bytes));
  }

  get isEnding(): boolean {
    return this.#parts.isEnding();
  }

  /** Whether to read on. A read may still arrive after reading was paused; it is kept. */
  #take(bytes: Buffer): boolean {
    if (this.#isPaused) this.#overdue = bytes;
    else this.#guarded(onData, bytes);
    return !this.#isPaused;
  }

  takeOverdue(): void {
    const bytes = this.#overdue;
    if (this.#isPaused || bytes === undefined) return;
    this.#overdue = undefined;
    if (this.#take(bytes)) resumeReads(this.socket);
  }

  /** No request is in flight. */
  get isIdle(): boolean {
    return this.#incoming === undefined && (this.#state === 'head' || this.#state === 'linger');
  }

  /** A request is in flight, a tunnel is open, or the client has not read all of a response. */
  get isBusy(): boolean {
    if (this.#incoming !== undefined || this.#state === 'tunnel') return true;
    return this.socket.writableLength > 0 && !this.socket.destroyed;
  }

  /** An exception from one connection ends that connection, and is reported (invariant 12). */
  #guarded<Argument>(
    step: (connection: ClientConnection, argument: Argument) => void,
    argument?: Argument,
  ): void {
    try {
      step(this, argument as Argument);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Something unexpected was thrown while this connection was served. */
  fail(error: unknown): void {
    this.#parts.onFault(error);
    this.socket.destroy();
  }

  receive(bytes: Buffer): void {
    switch (this.#state) {
      case 'head':
        this.#readHead(bytes);
        break;
      case 'body':
      case 'drain':
        this.#readBody(bytes, 0, bytes.length);
        break;
      case 'wait':
        this.#keep(bytes);
        break;
      case 'tunnel':
        if (this.#tunnel?.write(bytes, 0, bytes.length, 'kept') === false) this.#pause();
        this.#since = this.#parts.sweep.nowMs;
        break;
      case 'linger':
        this.#lingerBytes += bytes.length;
        if (this.#lingerBytes > LINGER_BYTES) this.socket.destroy();
        break;
      case 'closed':
        break;
    }
  }

  // Reading heads

  #readHead(bytes: Buffer): void {
    if (this.#isBacklogged) this.#hasNews = true;
    else if (this.#unread === undefined) {
      this.#parseHead(bytes);
      return;
    }
    const all = this.#append(bytes);
    if (this.#hasNews) {
      // The kept bytes are parsed soon, and these with them.
      this.#updateReading();
      return;
    }
    // A head is parsed once per line, and not once per packet.
    if (bytes.includes(LF) || all.length > this.#parts.limits.headBytes) this.#parseHead(all);
  }

  /** `bytes` are all that is kept of the head, if anything is. */
  #parseHead(bytes: Buffer): void {
    const parsed = this.#parts.parser.parse(bytes, 0, bytes.length);
    if (parsed === undefined) {
      if (this.#unread === undefined) {
        this.#since = this.#parts.sweep.nowMs;
        this.#append(bytes);
      }
      return;
    }
    this.#dropUnread();
    if ('status' in parsed) this.#refuse(parsed, bytes);
    else this.#begin(parsed.head, bytes, parsed.end);
  }

  #begin(head: ParsedRequestHead, bytes: Buffer, bodyStart: number): void {
    this.#since = this.#parts.sweep.nowMs;
    this.#endedAt = this.#since;
    this.#probeCount = 0;
    this.#hasServed = true;
    const framing = framingOf(head);
    const incoming = new IncomingRequest(this, head, framing === 'none');
    this.#incoming = incoming;
    this.#isBodyPaused = true;
    if (framing === 'none') {
      this.#state = 'wait';
      if (bodyStart < bytes.length) this.#keep(bytes.subarray(bodyStart));
    } else {
      this.#state = 'body';
      this.#body ??= new BodyReader(this.#parts.trailers);
      this.#body.begin(framing, head.contentLength ?? 0);
      this.#readBody(bytes, bodyStart, bytes.length);
      // The body is malformed from its first bytes on, and the handler has not got the request yet.
      if (this.#incoming !== incoming) return;
      if (this.#hasEnded && !incoming.isBodyComplete) {
        // The rest will not come, and no further event reports that.
        incoming.breakOff();
        return;
      }
    }
    this.#parts.handler.handle(incoming);
  }

  /** A head that can't be read: one response, and the end of the connection. */
  #refuse(why: MalformedRequest, bytes: Buffer | undefined = this.#unread): void {
    const unreadable = isHead(bytes) ? UNREADABLE_HEAD : UNREADABLE;
    this.#dropUnread();
    this.#state = 'wait';
    const incoming = new IncomingRequest(this, unreadable, true);
    this.#incoming = incoming;
    this.#parts.handler.handleMalformed(incoming, why);
  }

  // Reading bodies

  #readBody(bytes: Buffer, from: number, end: number): void {
    const body = this.#body;
    const incoming = this.#incoming;
    if (!body) return;
    this.#since = this.#parts.sweep.nowMs;
    const bodyEnd = body.read(bytes, from, end, this);
    if (bodyEnd === BROKEN_BODY) {
      this.#breakBody(INVALID_BODY);
      return;
    }
    if (!body.isComplete) {
      this.#boundEarly();
      return;
    }
    if (bodyEnd < end) this.#keep(bytes.subarray(bodyEnd, end));
    if (this.#state === 'drain') this.#nextHead();
    else if (this.#state === 'body') this.#state = 'wait';
    this.#updateReading();
    incoming?.deliverEnd();
  }

  onBodyBytes(bytes: Buffer, start: number, end: number): void {
    if (this.#state === 'drain') {
      this.#lingerBytes += end - start;
      if (this.#lingerBytes > DRAINED_BODY_BYTES) this.socket.destroy();
      return;
    }
    const isWhole = start === 0 && end === bytes.length;
    this.#incoming?.deliver(isWhole ? bytes : bytes.subarray(start, end));
  }

  /** The body is not read yet: it waits here up to a limit, and beyond that in the kernel. */
  #boundEarly(): void {
    const incoming = this.#incoming;
    if (!incoming || incoming.isReadingBody) return;
    if (incoming.earlyBytes >= this.#parts.limits.connectionBufferBytes) this.#pause();
    this.account();
  }

  #breakBody(why: MalformedRequest): void {
    const incoming = this.#incoming;
    if (this.#state === 'drain' || !incoming) {
      this.socket.destroy();
      return;
    }
    // What follows is not read: the beginning of the next request is unknown.
    this.#state = 'wait';
    this.#dropUnread();
    if (incoming.isListenedTo) incoming.deliverBroken(why);
    else this.#refuseBroken(why);
  }

  /** The body was malformed before the handler got the request. */
  #refuseBroken(why: MalformedRequest): void {
    this.#incoming = undefined;
    this.#refuse(why);
  }

  setBodyPaused(isPaused: boolean): void {
    this.#isBodyPaused = isPaused;
    this.#updateReading();
  }

  mayDrainBody(): boolean {
    const body = this.#body;
    if (this.#state !== 'body' || !body) return true;
    return body.framing === 'length' ? body.left <= DRAINED_BODY_BYTES : true;
  }

  // What was received too early

  #keep(bytes: Buffer): void {
    if (bytes.length > 0) this.#append(bytes);
    this.#updateReading();
    this.account();
  }

  /** All that is kept, in one buffer that grows by doubling. */
  #append(bytes: Buffer): Buffer {
    const length = this.#unreadLength + bytes.length;
    if (this.#unread === undefined) {
      this.#unread = withoutItsSlab(bytes);
    } else {
      if (this.#unread.length < length || this.#unreadLength === 0) {
        const grown = Buffer.allocUnsafe(Math.max(2 * this.#unreadLength, length, 1_024));
        this.#unread.copy(grown, 0, 0, this.#unreadLength);
        this.#unread = grown;
      }
      bytes.copy(this.#unread, this.#unreadLength);
    }
    this.#unreadLength = length;
    return this.#unread.subarray(0, length);
  }

  #dropUnread(): void {
    this.#unread = undefined;
    this.#unreadLength = 0;
  }

  /**
   * Parses what is kept: one request a turn of the event loop, so that a client that sends many at once
   * delays no other client, and each request reuses the connection to the app of the one before.
   */
  pumpSafely(): void {
    this.#guarded(pumpNow);
  }

  pump(): void {
    this.#isPumpDue = false;
    // The event for it may come after this turn.
    if (this.#state !== 'head' || this.socket.destroyed) return;
    if (this.#hasNews && this.#isBacklogged) {
      this.#updateReading();
      return;
    }
    const unread = this.#unread;
    if (unread !== undefined && this.#hasNews) {
      const kept = unread.subarray(0, this.#unreadLength);
      this.#hasNews = false;
      this.#dropUnread();
      this.#parseHead(kept);
    }
    this.#updateReading();
    this.#endIfHalfClosed();
  }

  /** A client that has ended its side sends no more than what is here already. */
  #endIfHalfClosed(): void {
    if (this.#hasEnded && this.#state === 'head' && !this.#hasNews) this.#endHead();
  }

  /**
   * The client has not read its earlier responses. The next request waits until it has, or a client
   * that asks and never reads would fill the memory.
   */
  get #isBacklogged(): boolean {
    return this.socket.writableLength >= MAX_WAITING_BYTES;
  }

  #schedulePump(): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    setImmediate(pump, this);
  }

  // The end of a response

  finish(closes: boolean): void {
    this.#incoming = undefined;
    const isBodyLeft = this.#state === 'body';
    if (closes || this.isEnding || this.socket.destroyed) {
      this.#linger();
      return;
    }
    if (isBodyLeft) {
      this.#state = 'drain';
      this.#lingerBytes = 0;
      this.#since = this.#parts.sweep.nowMs;
      this.#updateReading();
      return;
    }
    this.#nextHead();
  }

  #nextHead(): void {
    this.#state = 'head';
    this.#since = this.#parts.sweep.nowMs;
    this.account();
    this.#hasNews = this.#unreadLength > 0;
    if (this.#hasNews) this.#schedulePump();
    else {
      this.#updateReading();
      this.#endIfHalfClosed();
    }
  }

  /** The client gets its response though it may still send. The connection ends in any case. */
  #linger(): void {
    this.#state = 'linger';
    this.#dropUnread();
    this.#lingerBytes = 0;
    this.#since = this.#parts.sweep.nowMs;
    this.account();
    this.socket.end();
    if (this.#hasEnded) this.socket.destroySoon();
    else this.#updateReading();
  }

  destroy(resets: boolean): void {
    if (resets) resetSocket(this.socket);
    else this.socket.destroy();
  }

  /** Closes the connection if no request is in flight; otherwise that request is the last. */
  closeWhenIdle(): void {
    if (this.#state === 'head' && this.#incoming === undefined) this.#endHead();
  }

  // Events of the socket

  /** The client has ended its side; it may still read. */
  receiveEnd(): void {
    this.#hasEnded = true;
    this.#since = this.#parts.sweep.nowMs;
    this.#endedAt = this.#since;
    switch (this.#state) {
      case 'head':
        this.#endIfHalfClosed();
        break;
      case 'body':
        // The rest will not come.
        this.#incoming?.breakOff();
        break;
      case 'drain':
        this.#linger();
        break;
      case 'tunnel':
        this.#tunnel?.end();
        this.#closeEndedTunnel();
        break;
      case 'linger':
        this.socket.destroySoon();
        break;
      case 'wait':
      case 'closed':
        break;
    }
  }

  #endHead(): void {
    this.#state = 'linger';
    this.#dropUnread();
    this.socket.destroySoon();
  }

  canWrite(): void {
    this.account();
    this.#since = this.#parts.sweep.nowMs;
    if (this.#state === 'tunnel') this.#tunnel?.resume();
    else if (this.#state === 'head') this.#schedulePump();
    else this.#incoming?.deliverWritable();
  }

  closed(hadError: boolean): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#parts.sweep.remove(this);
    this.#account?.set(0);
    this.#parts.onClosed(this);
    this.#dropUnread();
    this.#overdue = undefined;
    const tunnel = this.#tunnel;
    this.#tunnel = undefined;
    const incoming = this.#incoming;
    this.#incoming = undefined;
    tunnel?.closeTunnel(hadError);
    incoming?.deliverGone();
  }

  // Reading and pausing

  #isReading(): boolean {
    switch (this.#state) {
      case 'drain':
      case 'linger':
        return true;
      case 'head':
        return !this.#hasNews || this.#unreadLength < this.#parts.limits.connectionBufferBytes;
      case 'body':
        if (this.#incoming?.isReadingBody) return !this.#isBodyPaused;
        return (this.#incoming?.earlyBytes ?? 0) < this.#parts.limits.connectionBufferBytes;
      case 'wait':
        // Read on: only a read shows that the client has disconnected.
        return this.#unreadLength < this.#parts.limits.connectionBufferBytes;
      case 'tunnel':
      case 'closed':
        return !this.#isPaused;
    }
  }

  #updateReading(): void {
    if (this.#isReading()) this.#resume();
    else this.#pause();
  }

  #pause(): void {
    this.#isPaused = true;
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#since = this.#parts.sweep.nowMs;
    // Asynchronous, so that the caller does not receive bytes while it resumes.
    if (this.#overdue === undefined) resumeReads(this.socket);
    else setImmediate(takeOverdue, this);
  }

  account(): void {
    const early = this.#incoming?.earlyBytes ?? 0;
    const overdue = this.#overdue?.length ?? 0;
    const held = this.socket.writableLength + this.#unreadLength + early + overdue;
    if (held === 0 && this.#account === undefined) return;
    this.#account ??= this.#parts.budget.open();
    this.#account.set(held);
  }

  // As one end of a tunnel

  openTunnel(upstream: TunnelEnd): TunnelEnd {
    this.#state = 'tunnel';
    this.#tunnel = upstream;
    this.#since = this.#parts.sweep.nowMs;
    const kept = this.#unread?.subarray(0, this.#unreadLength);
    this.#dropUnread();
    if (kept && !upstream.write(kept, 0, kept.length, 'kept')) this.#pause();
    else this.#resume();
    if (this.#hasEnded) upstream.end();
    return this;
  }

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    this.#since = this.#parts.sweep.nowMs;
    const mayGoOn = writeBytes(this.socket, '', bytes, start, end, ownership);
    if (!mayGoOn) this.account();
    return mayGoOn;
  }

  resume(): void {
    this.#resume();
  }

  end(): void {
    this.#hasTunnelEnded = true;
    this.#since = this.#parts.sweep.nowMs;
    this.socket.end();
    this.#closeEndedTunnel();
  }

  closeTunnel(resets: boolean): void {
    if (resets) this.destroy(true);
    else {
      this.#state = 'linger';
      this.#since = this.#parts.sweep.nowMs;
      this.#resume();
      this.socket.destroySoon();
    }
  }

  #closeEndedTunnel(): void {
    if (this.#hasEnded && this.#hasTunnelEnded) this.socket.destroySoon();
  }

  // Timeouts

  checkTimeouts(nowMs: number): void {
    this.#guarded(lookAtTime, nowMs);
  }

  lookAtTime(nowMs: number): void {
    const { headTimeoutMs, idleTimeoutMs, stallTimeoutMs } = this.#parts.limits;
    const waitedMs = nowMs - this.#since;
    // The last bytes of a response leave the socket without an event, and short waits open no account.
    this.account();
    switch (this.#state) {
      case 'head':
        if (this.#hasNews) this.#endStalled(nowMs);
        else if (this.#unreadLength > 0) {
          if (waitedMs >= headTimeoutMs) this.#refuse(HEAD_TIMEOUT);
          else if (this.#parts.budget.isExhausted) this.#refuse(NO_MEMORY_FOR_HEAD);
        } else if (waitedMs >= (this.#hasServed ? idleTimeoutMs : headTimeoutMs)) {
          this.#endHead();
        }
        break;
      case 'body':
        this.#endStalled(nowMs);
        if (stallTimeoutMs === 0 || waitedMs < stallTimeoutMs || this.socket.destroyed) break;
        if (!this.#isPaused && this.#incoming?.isResponding === false)
          this.#breakBody(BODY_TIMEOUT);
        else if (this.#isAwaitingBody()) this.socket.destroy();
        break;
      case 'wait':
        if (this.#hasEnded) this.#probeHalfClosed(nowMs - this.#endedAt);
        this.#endStalled(nowMs);
        break;
      case 'drain':
        if (waitedMs >= LINGER_MS) this.socket.destroy();
        break;
      case 'linger':
        this.#endLingering(nowMs);
        break;
      case 'tunnel': {
        const isHalf = this.#hasEnded || this.#hasTunnelEnded;
        if (isHalf && waitedMs >= HALF_CLOSED_TUNNEL_MS) this.socket.destroy();
        break;
      }
      case 'closed':
        break;
    }
  }

  /**
   * A client that has ended its side gets a response with a length. A stream is ended, as the client may be
   * gone.
   */
  #probeHalfClosed(waitedMs: number): void {
    const incoming = this.#incoming;
    if (!incoming || waitedMs < HALF_CLOSE_MS) return;
    if (incoming.isResponding) {
      if (incoming.isOpenEnded) this.socket.destroy();
    } else if (incoming.head.minorVersion === 1 && incoming.head.upgrade === undefined) {
      const isDue = waitedMs >= (this.#probeCount + 1) * HALF_CLOSE_MS;
      if (!isDue || this.#probeCount === HALF_CLOSE_PROBES) return;
      this.#probeCount += 1;
      incoming.writeProcessing();
    } else if (waitedMs >= HALF_CLOSE_OLD_MS) this.socket.destroy();
  }

  /** The client has its response, and only the rest of its own body is missing. */
  #isAwaitingBody(): boolean {
    const isWritten = this.socket.writableLength === 0;
    return this.#incoming?.isAwaitingBody === true && isWritten && !this.#isPaused;
  }

  /** Waits for written bytes as before; then the client has some time to read them. */
  #endLingering(nowMs: number): void {
    if (this.socket.writableLength > 0) {
      this.#hasUnwritten = true;
      this.#endStalled(nowMs);
    } else if (this.#hasUnwritten) {
      this.#hasUnwritten = false;
      this.#since = this.#parts.sweep.nowMs;
    } else if (nowMs - this.#since >= LINGER_MS) this.socket.destroy();
  }

  /** A client that reads no byte of its response. */
  #endStalled(nowMs: number): void {
    const { stallTimeoutMs } = this.#parts.limits;
    const waiting = this.socket.writableLength;
    const takenBytes = waiting === 0 ? -1 : this.socket.bytesWritten - waiting;
    if (waiting === 0 || takenBytes !== this.#takenBytes) {
      this.#takenBytes = takenBytes;
      this.#takenAt = this.#parts.sweep.nowMs;
    } else if (stallTimeoutMs > 0 && nowMs - this.#takenAt >= stallTimeoutMs) this.socket.destroy();
  }
}

function pump(connection: ClientConnection): void {
  connection.pumpSafely();
}

function onData(connection: ClientConnection, bytes: Buffer): void {
  connection.receive(bytes);
}

function takeOverdue(connection: ClientConnection): void {
  connection.takeOverdue();
}

function pumpNow(connection: ClientConnection): void {
  connection.pump();
}

function onDrain(connection: ClientConnection): void {
  connection.canWrite();
}

function onEnd(connection: ClientConnection): void {
  connection.receiveEnd();
}

function onClose(connection: ClientConnection, hadError: boolean): void {
  connection.closed(hadError);
}

function lookAtTime(connection: ClientConnection, nowMs: number): void {
  connection.lookAtTime(nowMs);
}

/**
 * Copies a few bytes at the end of a large read: a slice would keep all of its memory, which the budget
 * does not count.
 */
function withoutItsSlab(bytes: Buffer): Buffer {
  if (2 * bytes.length >= bytes.buffer.byteLength) return bytes;
  const own = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(own);
  return own;
}

function framingOf({ isChunked, contentLength }: ParsedRequestHead): Framing {
  if (isChunked) return 'chunked';
  return (contentLength ?? 0) > 0 ? 'length' : 'none';
}

const UNREADABLE = unreadableHead('-');
/** Its response has no body in any case. */
const UNREADABLE_HEAD = unreadableHead('HEAD');

const HEAD_METHOD = /^(?:\r\n){0,2}HEAD /;

function isHead(bytes: Buffer | undefined): boolean {
  return bytes !== undefined && HEAD_METHOD.test(bytes.toString('latin1', 0, 16));
}

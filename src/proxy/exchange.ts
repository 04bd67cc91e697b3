/**
 * One HTTP request and its answer, from its arrival to its log line: it carries the decision of
 * the handler out, and owns what it started.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RequestHead } from '../affinity/extract.ts';
import type { RemoveHints } from '../affinity/hint.ts';
import type { Learner, Lesson } from '../affinity/learn.ts';
import type { Decision } from '../affinity/decide.ts';
import { refusalFor, type Refusal } from '../affinity/refuse.ts';
import { sessionKeyOf, type SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import type { Peer } from '../fleet/directory.ts';
import type { Answers } from './answers.ts';
import type { Bindings } from './bindings.ts';
import { answerToFailure, isRepeatable, isWorthAnotherTry } from './failure.ts';
import type { Handler, Routed, Wire } from './handler.ts';
import { requestHeaders, withHeader, type HeadFields, type LowerCase } from './headers.ts';
import { FORWARD_PATH, readPeerRefusal, REFUSED_HEADER, wrapHead } from './peer-wire.ts';
import { Relay, type Revealed, type RevealedHead, type RelayOwner } from './relay.ts';
import { hasBody, takeBody, type RequestBody } from './request-body.ts';
import type { Upstream, UpstreamRequest } from './upstream.ts';

/** What every exchange shares. */
export interface ExchangeParts {
  readonly handler: Handler;
  readonly answers: Answers;
  readonly bindings: Bindings;
  readonly learner: Pick<Learner, 'mayTeachByStream'>;
  readonly removeHints: RemoveHints;
  readonly upstream: Upstream;
  readonly peers: { to(peer: Peer): Upstream };
  readonly lowerCase: LowerCase;
  readonly clock: Clock;
  readonly observer: ExchangeObserver;
}

/** Told what happened, for logs and metrics. */
export interface ExchangeObserver {
  onStreamOpened(kind: StreamKind): void;
  onStreamClosed(kind: StreamKind): void;
  onFinished(exchange: FinishedExchange): void;
  /** The upstream or a peer failed; `code` is the library's. */
  onUpstreamFailure(error: Error, exchange: FinishedExchange): void;
}

export type StreamKind = 'http' | 'websocket';

export interface FinishedExchange {
  readonly requestId: string | undefined;
  readonly method: string;
  /** With its query: the log takes what it may show. */
  readonly target: string;
  readonly routed: Routed | undefined;
  /** 499: the client left first. */
  readonly statusCode: number;
  readonly totalMs: number;
  /** What the sidecar added, in ms. */
  readonly sidecarMs: number;
  /** From the request's leaving to the answer's head, in ms. */
  readonly upstreamMs: number | undefined;
}

/** What arrived, and how. */
export interface Request {
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: HeadFields;
  /** The client sends its body once it is told to (`Expect: 100-continue`). */
  readonly awaitsContinue: boolean;
  /** Set if the client asks for another protocol on this connection. */
  readonly tunnel: Tunnel | undefined;
}

/** Joins a client's connection with its upstream's, once the app has agreed to an upgrade. */
export interface Tunnel {
  /** Sends the head and then passes bytes both ways; `onClose` is called once, when both are gone. */
  open(head: UpgradeHead, upstream: Duplex, onClose: () => void): void;
}

export interface UpgradeHead {
  readonly statusCode: number;
  /** The protocol that was asked for, and agreed to. */
  readonly upgrade: string;
  readonly rawHeaders: readonly string[];
}

/** How long the rest of an unread body is read and dropped before its connection is closed, in ms. */
const LINGER_MS = 5_000;
const CLIENT_LEFT = 499;
const MALFORMED: Decision = { kind: 'refuse', status: 400, why: 'malformed-request' };

export class Exchange implements Wire, RelayOwner {
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: HeadFields;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #parts: ExchangeParts;
  readonly #awaitsContinue: boolean;
  readonly #tunnel: Tunnel | undefined;
  readonly #arrivedAt: number;
  #routed: Routed | undefined;
  #relay: Relay | undefined;
  #repeatable: { upstream: Upstream; request: UpstreamRequest } | undefined;
  #sentAt = 0;
  #answeredAt = 0;
  #writtenAt = 0;
  #statusCode = 0;
  #isToPeer = false;
  #isUpgraded = false;
  #isClosed = false;
  #closed: (() => void) | undefined;
  #openStream: (() => void) | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, request: Request, parts: ExchangeParts) {
    this.#req = req;
    this.#res = res;
    this.#parts = parts;
    this.from = request.from;
    this.head = request.head;
    this.fields = request.fields;
    this.#awaitsContinue = request.awaitsContinue;
    this.#tunnel = request.tunnel;
    this.#arrivedAt = parts.clock.monotonicMs();
    // The upstream's own Date passes through; ours would be a second one.
    res.sendDate = false;
    res.once('close', () => this.#onClose());
  }

  get socket(): Socket {
    return this.#req.socket;
  }

  /** Calls `fn` once the answer is out, or will never be. */
  onceClosed(fn: () => void): void {
    this.#closed = fn;
  }

  /** Breaks the exchange off: the client sees its connection end. */
  destroy(): void {
    this.#req.socket.destroy();
  }

  /** What follows the head is no HTTP/1.1: 400 if nothing was answered yet, and the connection ends. */
  refuseBody(error: Error): void {
    const routed = this.#routed;
    this.#repeatable = undefined;
    this.#relay?.abort(error);
    if (!routed || this.#res.headersSent) this.destroy();
    else
      this.reply(refusalFor(400, 'malformed-request', undefined), {
        ...routed,
        decision: MALFORMED,
      });
  }

  reply(answer: Refusal, routed: Routed): void {
    this.#routed = routed;
    const headers = [...answer.headers, 'content-length', String(Buffer.byteLength(answer.body))];
    if (routed.decision.kind === 'refuse' && routed.decision.why === 'moved') {
      headers.push(REFUSED_HEADER, 'moved');
    }
    // The client was not told to go on, so what it sends next may be the body or a new request.
    const isOutOfStep = this.#awaitsContinue && hasBody(this.fields);
    if (isOutOfStep || routed.decision.why === 'malformed-request') {
      headers.push('connection', 'close');
    }
    this.#statusCode = answer.status;
    this.#res.writeHead(answer.status, headers);
    this.#res.end(answer.body);
    this.#writtenAt = this.#parts.clock.monotonicMs();
  }

  toUpstream(routed: Routed): void {
    this.#routed = routed;
    const { removeHints, lowerCase, learner, upstream } = this.#parts;
    const head = removeHints(this.head, routed.wholeId);
    let headers = requestHeaders(head.rawHeaders, lowerCase, this.#forwardedBy());
    if (learner.mayTeachByStream(this.head, routed.extraction)) {
      headers = withHeader(headers, 'accept-encoding', 'identity', lowerCase);
    }
    this.#send(upstream, head.target, headers);
  }

  toPeer(peer: Peer, routed: Routed): void {
    this.#routed = routed;
    this.#isToPeer = true;
    const { lowerCase, peers } = this.#parts;
    const rawHeaders = requestHeaders(this.head.rawHeaders, lowerCase, this.#forwardedBy());
    const forwarded = { target: this.head.target, rawHeaders };
    const wrapped = wrapHead(forwarded, peer.machine, lowerCase);
    this.#send(peers.to(peer), FORWARD_PATH, wrapped);
  }

  #forwardedBy(): { remoteAddress: string; fields: HeadFields } {
    return { remoteAddress: this.#req.socket.remoteAddress ?? '', fields: this.fields };
  }

  /** A body may have come with its head: once this packet is parsed it can be taken in one piece. */
  #send(upstream: Upstream, path: string, headers: string[]): void {
    if (!hasBody(this.fields)) {
      this.#dispatch(upstream, path, headers, null);
      return;
    }
    if (this.#awaitsContinue) this.#res.writeContinue();
    queueMicrotask(() => this.#dispatch(upstream, path, headers, takeBody(this.#req, this.fields)));
  }

  #dispatch(upstream: Upstream, path: string, headers: string[], body: RequestBody): void {
    const { method } = this.head;
    const upgrade = this.#tunnel ? this.fields.upgrade : undefined;
    const request = { path, method, headers, body, upgrade };
    this.#sentAt = this.#parts.clock.monotonicMs();
    this.#relay = new Relay(this.#res, this, this.#parts.lowerCase);
    if (isRepeatable(body)) this.#repeatable = { upstream, request };
    upstream.send(request, this.#relay);
  }

  reveal(statusCode: number, rawHeaders: string[]): Revealed {
    const { answers, clock } = this.#parts;
    this.#answeredAt = clock.monotonicMs();
    if (this.#isToPeer) return this.#revealForwarded(statusCode, rawHeaders);
    if (!this.#routed) return { rawHeaders, tap: undefined };
    return answers.fromHead(this.head, this.#routed, { statusCode, rawHeaders });
  }

  /** A forwarded answer is never looked at, as its owner has learned already; a peer's own refusal is. */
  #revealForwarded(statusCode: number, rawHeaders: string[]): Revealed {
    const { bindings, handler, lowerCase } = this.#parts;
    const refusal = readPeerRefusal(statusCode, rawHeaders, lowerCase);
    const routed = this.#routed;
    if (!refusal || !routed) return { rawHeaders, tap: undefined };
    if (refusal === 'moved' && routed.key && routed.owner) bindings.drop(routed.key, routed.owner);
    handler.unreachable(this, routed);
    return undefined;
  }

  onLesson(lesson: Lesson): Promise<void> {
    const key = sessionKeyOf(lesson.id);
    return this.#parts.answers.fromStream(lesson).then(() => {
      this.#holdWhileOpen(key);
    });
  }

  onFlowing(statusCode: number, isStream: boolean): void {
    this.#statusCode = statusCode;
    this.#writtenAt = this.#parts.clock.monotonicMs();
    if (isStream) this.#countStream('http', statusCode);
  }

  /** A session whose stream is open is in use (design, "What an answer teaches"). */
  #countStream(kind: StreamKind, statusCode: number): void {
    const { observer } = this.#parts;
    observer.onStreamOpened(kind);
    const key = this.#routed?.decision.kind === 'local' ? this.#routed.key : undefined;
    const isOurs = key !== undefined && this.#routed?.binding !== undefined;
    const release = isOurs && statusCode < 400 ? this.#parts.bindings.hold(key) : undefined;
    this.#openStream = () => {
      observer.onStreamClosed(kind);
      release?.();
    };
  }

  onUpgraded(statusCode: number, rawHeaders: string[], upstream: Duplex): void {
    const revealed = this.reveal(statusCode, rawHeaders);
    if (revealed instanceof Promise) {
      void revealed.then((head) => this.#openTunnel(statusCode, head, upstream));
    } else if (revealed) {
      this.#openTunnel(statusCode, revealed, upstream);
    }
  }

  #openTunnel(statusCode: number, { rawHeaders }: RevealedHead, upstream: Duplex): void {
    if (!this.#tunnel || this.#res.destroyed) {
      upstream.destroy();
      return;
    }
    this.#statusCode = statusCode;
    this.#writtenAt = this.#parts.clock.monotonicMs();
    this.#isUpgraded = true;
    const upgrade = this.fields.upgrade ?? '';
    this.#countStream('websocket', statusCode);
    this.#tunnel.open({ statusCode, upgrade, rawHeaders }, upstream, () => this.#onClose());
  }

  onFailedBeforeHead(error: Error): void {
    if (this.#res.destroyed || this.#res.headersSent) return;
    if (this.#triesAgain(error)) return;
    const { observer, handler } = this.#parts;
    observer.onUpstreamFailure(error, this.#finished());
    this.#answeredAt ||= this.#parts.clock.monotonicMs();
    if (!this.#routed) return;
    if (this.#isToPeer) handler.unreachable(this, this.#routed);
    else this.reply(answerToFailure(error), this.#routed);
  }

  /** Once, and not once the client has seen a byte. */
  #triesAgain(error: Error): boolean {
    const repeatable = this.#repeatable;
    this.#repeatable = undefined;
    if (!repeatable || !isWorthAnotherTry(error, this.head.method)) return false;
    this.#relay = new Relay(this.#res, this, this.#parts.lowerCase);
    repeatable.upstream.send(repeatable.request, this.#relay);
    return true;
  }

  onCut(error: Error): void {
    this.#parts.observer.onUpstreamFailure(error, this.#finished());
  }

  /** The session that this very stream has taught lives as long as it, and a little longer. */
  #holdWhileOpen(key: SessionKey): void {
    const release = this.#parts.bindings.hold(key);
    const closeStream = this.#openStream;
    this.#openStream = () => {
      closeStream?.();
      release();
      this.#parts.bindings.endWithStream(key);
    };
  }

  /** The answer is out, or the client has left: whatever was started ends here. */
  #onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (!this.#res.writableFinished && !this.#isUpgraded) {
      this.#statusCode = CLIENT_LEFT;
      this.#relay?.abort(new Error('the client left'));
    }
    this.#openStream?.();
    this.#openStream = undefined;
    this.#dropRestOfBody();
    this.#closed?.();
    this.#parts.observer.onFinished(this.#finished());
  }

  /** The connection stays in step: what is left of the body is read, or the connection ends. */
  #dropRestOfBody(): void {
    const req = this.#req;
    if (req.complete || req.destroyed || this.#isUpgraded) return;
    const cancel = this.#parts.clock.after(LINGER_MS, () => req.destroy());
    req.once('close', cancel);
    req.resume();
  }

  #finished(): FinishedExchange {
    const now = this.#parts.clock.monotonicMs();
    const isAnswered = this.#sentAt > 0 && this.#answeredAt > 0;
    const upstreamMs = isAnswered ? this.#answeredAt - this.#sentAt : undefined;
    const writtenAt = this.#writtenAt || now;
    return {
      requestId: this.fields.requestId,
      method: this.head.method,
      target: this.head.target,
      routed: this.#routed,
      statusCode: this.#statusCode,
      totalMs: now - this.#arrivedAt,
      sidecarMs: Math.max(0, writtenAt - this.#arrivedAt - (upstreamMs ?? 0)),
      upstreamMs,
    };
  }
}

/**
 * One HTTP request and its answer, from its arrival to its log line: it carries the decision of
 * the handler out, and owns what it started.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Decision } from '../affinity/decide.ts';
import type { RequestHead } from '../affinity/extract.ts';
import type { Lesson } from '../affinity/learn.ts';
import { refusalFor, statusOfUnknownSession, type Refusal } from '../affinity/refuse.ts';
import { sessionKeyOf, type SessionKey } from '../affinity/session.ts';
import type { Cancel } from '../clock.ts';
import type { Peer } from '../fleet/directory.ts';
import type { Revealed as RevealedAnswer } from './answers.ts';
import type { ExchangeParts, FinishedExchange, ReceivedRequest, Tunnel } from './exchange-parts.ts';
import { ExchangeTimes } from './exchange-times.ts';
import { answerToFailure, isRepeatable, isWorthAnotherTry, wasRefused } from './failure.ts';
import type { Routed, Wire } from './handler.ts';
import {
  passableTrailers,
  withForwarded,
  withHeader,
  type HeadFields,
  type RawHeaders,
} from './headers.ts';
import { FORWARD_PATH, readPeerRefusal, REFUSED_HEADER, wrapHead } from './peer-wire.ts';
import {
  Relay,
  type Revealed,
  type RevealedHead,
  type RelayOwner,
  type UpgradeAnswer,
} from './relay.ts';
import { hasBody, takeBody, type RequestBody } from './request-body.ts';
import { readRequestId } from './request-id.ts';
import { SessionStream } from './session-stream.ts';
import type { Upstream, UpstreamRequest } from './upstream.ts';

/** How long the rest of an unread body is read and dropped before its connection is closed, in ms. */
const LINGER_MS = 5_000;
const CLIENT_LEFT = 499;
const MALFORMED: Decision = { kind: 'refuse', status: 400, why: 'malformed-request' };

export class Exchange implements Wire, RelayOwner {
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: HeadFields;
  /** Kept by {@link OpenExchanges}. */
  place = -1;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #parts: ExchangeParts;
  readonly #awaitsContinue: boolean;
  readonly #tunnel: Tunnel | undefined;
  readonly #times: ExchangeTimes;
  readonly #stream: SessionStream;
  #routed: Routed | undefined;
  #relay: Relay | undefined;
  #repeatable: { upstream: Upstream; request: UpstreamRequest } | undefined;
  /** Set while a request's body is read for its refusal. */
  #stopReading: Cancel | undefined;
  /** Sessions of this Machine that are in use while the answer is on its way. */
  #sessions: readonly SessionKey[] = [];
  #statusCode = 0;
  #isToPeer = false;
  #isUpgraded = false;
  #wasCut = false;
  #isClosed = false;
  #closed: (() => void) | undefined;

  constructor(
    req: IncomingMessage,
    res: ServerResponse,
    request: ReceivedRequest,
    parts: ExchangeParts,
  ) {
    this.#req = req;
    this.#res = res;
    this.#parts = parts;
    this.from = request.from;
    this.head = request.head;
    this.fields = request.fields;
    this.#awaitsContinue = request.awaitsContinue;
    this.#tunnel = request.tunnel;
    this.#times = new ExchangeTimes(parts.clock);
    this.#stream = new SessionStream(parts.bindings, parts.observer);
    // The upstream's own Date passes through; ours would be a second one.
    res.sendDate = false;
    res.on('close', () => this.#onClose());
  }

  get endsConnection(): boolean {
    return this.#parts.isEnding();
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
    this.#stopReading?.();
    if (!routed || this.#res.headersSent) {
      this.destroy();
      return;
    }
    const refusal = refusalFor(400, MALFORMED.why, undefined);
    this.reply(refusal, { ...routed, decision: MALFORMED });
  }

  reply(answer: Refusal, routed: Routed): void {
    // The client may have left while its owner was looked for.
    if (this.#isClosed) return;
    this.#routed = routed;
    const { bodyFor } = answer;
    // A client that waits to be told to go on will not send its body.
    if (!bodyFor || this.#awaitsContinue || !hasBody(this.fields)) {
      this.#write(answer, routed);
      return;
    }
    this.#stopReading = readRequestId(this.#req, this.#parts.clock, (requestId) => {
      this.#stopReading = undefined;
      const body = requestId === undefined ? answer.body : bodyFor(requestId);
      this.#write({ ...answer, body }, routed);
    });
  }

  #write(answer: Refusal, routed: Routed): void {
    const headers = [...answer.headers, 'content-length', String(Buffer.byteLength(answer.body))];
    if (routed.decision.kind === 'refuse' && routed.decision.why === 'moved') {
      headers.push(REFUSED_HEADER, 'moved');
    }
    // The client was not told to go on, so what it sends next may be the body or a new request.
    const isOutOfStep = this.#awaitsContinue && hasBody(this.fields);
    const isBroken = isOutOfStep || routed.decision.why === 'malformed-request';
    if (isBroken || this.endsConnection) {
      headers.push('connection', 'close');
    }
    this.#statusCode = answer.status;
    this.#res.writeHead(answer.status, headers);
    this.#res.end(answer.body);
    this.#times.noteWritten();
  }

  toUpstream(routed: Routed): void {
    this.#routed = routed;
    const { removeHints, learner, upstream } = this.#parts;
    const head = removeHints(this.head, routed.wholeId);
    let headers = this.#withForwarded(head.rawHeaders);
    if (learner.mayTeachByBody(this.head, routed.extraction)) {
      headers = withHeader(headers, 'accept-encoding', 'identity');
    }
    this.#send(upstream, head.target, headers);
  }

  toPeer(peer: Peer, routed: Routed): void {
    this.#routed = routed;
    this.#isToPeer = true;
    const rawHeaders = this.#withForwarded(this.head.rawHeaders);
    const wrapped = wrapHead({ target: this.head.target, rawHeaders }, peer.machine);
    this.#send(this.#parts.peers.to(peer), FORWARD_PATH, wrapped);
  }

  #withForwarded(headers: RawHeaders): RawHeaders {
    const remoteAddress = this.#req.socket.remoteAddress ?? '';
    const { upstreamHost } = this.#parts;
    return withForwarded(headers, this.fields, { remoteAddress, upstreamHost });
  }

  /** A body may have come with its head: once this packet is parsed it can be taken in one piece. */
  #send(upstream: Upstream, path: string, headers: RawHeaders): void {
    // The client may have left while its owner was looked for.
    if (this.#isClosed) return;
    if (!hasBody(this.fields)) {
      this.#dispatch(upstream, path, headers, null);
      return;
    }
    if (this.#awaitsContinue) this.#res.writeContinue();
    queueMicrotask(() => {
      if (this.#isClosed) return;
      this.#dispatch(upstream, path, headers, takeBody(this.#req, this.fields));
    });
  }

  #dispatch(upstream: Upstream, path: string, headers: RawHeaders, body: RequestBody): void {
    const { method } = this.head;
    const upgrade = this.#tunnel?.protocols;
    const request = { path, method, headers, body, upgrade };
    this.#times.noteSent();
    this.#relay = new Relay(this.#res, this, this.#parts.flusher);
    if (isRepeatable(body)) this.#repeatable = { upstream, request };
    upstream.send(request, this.#relay);
  }

  reveal(statusCode: number, rawHeaders: string[]): Revealed {
    this.#times.noteAnswered();
    if (this.#isToPeer) return this.#revealForwarded(statusCode, rawHeaders);
    if (!this.#routed) return { rawHeaders, tap: undefined };
    if (isFalseNotFound(this.#routed, statusCode)) {
      this.#parts.handler.unreachable(this, this.#routed);
      return undefined;
    }
    const response = { statusCode, rawHeaders };
    const revealed = this.#parts.answers.fromHead(this.head, this.#routed, response);
    const noteSessions = (head: RevealedAnswer): RevealedAnswer => {
      this.#sessions = head.sessions;
      return head;
    };
    return revealed instanceof Promise ? revealed.then(noteSessions) : noteSessions(revealed);
  }

  /** A forwarded answer is never looked at, as its owner has learned already; a peer's own refusal is. */
  #revealForwarded(statusCode: number, rawHeaders: string[]): Revealed {
    const { onMoved, onForwarded, handler } = this.#parts;
    const refusal = readPeerRefusal(statusCode, rawHeaders);
    const routed = this.#routed;
    if (!refusal || !routed) {
      if (routed) onForwarded(routed.decision);
      return { rawHeaders, tap: undefined };
    }
    if (refusal === 'moved' && routed.key && routed.owner) onMoved(routed.key, routed.owner);
    handler.unreachable(this, routed);
    return undefined;
  }

  onLesson(lesson: Lesson): Promise<void> {
    const key = sessionKeyOf(lesson.id);
    return this.#parts.answers.fromBody(lesson).then(() => {
      if (lesson.protocol.endsBy === 'stream-end') this.#stream.carry(key);
    });
  }

  onFlowing(statusCode: number, isStream: boolean): void {
    this.#statusCode = statusCode;
    this.#times.noteWritten();
    if (isStream) this.#stream.open('http', this.#sessions);
  }

  passTrailers(rawTrailers: RawHeaders): RawHeaders {
    return passableTrailers(rawTrailers, this.#parts.teachingHeaders);
  }

  onUpgraded(answer: UpgradeAnswer, upstream: Duplex): void {
    const revealed = this.reveal(answer.statusCode, answer.rawHeaders);
    if (revealed instanceof Promise) {
      void revealed.then((head) => this.#openTunnel(answer, head, upstream));
    } else if (revealed) {
      this.#openTunnel(answer, revealed, upstream);
    } else upstream.destroy();
  }

  #openTunnel(answer: UpgradeAnswer, { rawHeaders }: RevealedHead, upstream: Duplex): void {
    if (!this.#tunnel || this.#isClosed) {
      upstream.destroy();
      return;
    }
    if (upstream.destroyed) {
      this.onFailedBeforeHead(new Error('the app has left right after it had switched protocols'));
      return;
    }
    this.#statusCode = answer.statusCode;
    this.#times.noteWritten();
    this.#isUpgraded = true;
    this.#stream.open('websocket', this.#sessions);
    this.#tunnel.open({ ...answer, rawHeaders }, upstream, () => this.#onClose());
  }

  onFailedBeforeHead(error: Error): void {
    if (this.#isClosed || this.#res.destroyed || this.#res.headersSent) return;
    if (this.#triesAgain(error)) return;
    const { observer, handler } = this.#parts;
    observer.onUpstreamFailure(error, this.#finished());
    this.#times.noteAnswered();
    if (!this.#routed) return;
    if (this.#isToPeer) handler.unreachable(this, this.#routed);
    else if (!this.#goesElsewhere(error, this.#routed)) {
      const answer = answerToFailure(error);
      const { answers } = this.#parts;
      this.reply(
        wasRefused(error) ? answers.ofNobody(answer, this.head, this.#routed) : answer,
        this.#routed,
      );
    }
  }

  /** Nothing has reached the app, and the edge has the request whole. */
  #goesElsewhere(error: Error, routed: Routed): boolean {
    if (!wasRefused(error)) return false;
    this.#parts.onRefused();
    return this.#parts.handler.sendElsewhere(this, routed);
  }

  /** Once, and not once the client has seen a byte. */
  #triesAgain(error: Error): boolean {
    const repeatable = this.#repeatable;
    this.#repeatable = undefined;
    if (!repeatable || !isWorthAnotherTry(error, this.head.method)) return false;
    this.#relay = new Relay(this.#res, this, this.#parts.flusher);
    repeatable.upstream.send(repeatable.request, this.#relay);
    return true;
  }

  onCut(error: Error): void {
    if (this.#isClosed) return;
    this.#wasCut = true;
    this.#parts.observer.onUpstreamFailure(error, this.#finished());
  }

  /** The answer is out, or the client has left: whatever was started ends here. */
  #onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopReading?.();
    if (!this.#res.writableFinished && !this.#isUpgraded) {
      if (!this.#wasCut) this.#statusCode = CLIENT_LEFT;
      this.#relay?.abort(new Error('the client left'));
    }
    this.#stream.close();
    this.#dropRestOfBody();
    this.#closed?.();
    this.#parts.observer.onFinished(this.#finished());
  }

  /** The connection stays in step: what is left of the body is read, or the connection ends. */
  #dropRestOfBody(): void {
    const req = this.#req;
    const { socket } = req;
    if (req.complete || req.destroyed || socket.destroyed || this.#isUpgraded) return;
    const cancel = this.#parts.clock.after(LINGER_MS, () => req.destroy());
    // A request that was answered before it was complete does not hear that its connection closes.
    const settle = (): void => {
      cancel();
      req.off('close', settle);
      socket.off('close', settle);
    };
    req.once('close', settle);
    socket.once('close', settle);
    req.resume();
  }

  #finished(): FinishedExchange {
    const { totalMs, sidecarMs, upstreamMs } = this.#times.durations();
    return {
      requestId: this.fields.requestId,
      method: this.head.method,
      target: this.head.target,
      routed: this.#routed,
      statusCode: this.#statusCode,
      totalMs,
      sidecarMs,
      upstreamMs,
    };
  }
}

/**
 * The app beside us does not know this id, and a Machine that may know it was silent. Its "not found"
 * would make the client give a live session up (invariant 11).
 */
function isFalseNotFound({ decision, extraction }: Routed, statusCode: number): boolean {
  if (decision.why !== 'peers-inconclusive' || extraction.kind !== 'found') return false;
  return statusCode === statusOfUnknownSession(extraction.protocol);
}

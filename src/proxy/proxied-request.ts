/**
 * One request and its response, from its arrival to its log line: it carries out what the router has
 * decided, and owns what it started.
 *
 *   ROUTING ─decided─> RELAYING (to the app, or to a peer) ─response complete─> CLOSED
 *      │                  │ └─no response, and it may go elsewhere─> ROUTING
 *      │                  └─no response─> RESPONDING
 *      └─decided─> RESPONDING (in the sidecar's own name) ─────────────────────> CLOSED
 *
 * A client that goes closes it from any state.
 */
import type { MalformedRequest } from '../http/malformed-request.ts';
import type { DiscoveredId } from '../protocols/protocol.ts';
import type { BodyInspector, InspectedChunk } from '../protocols/body-inspector.ts';
import type { Decision } from '../routing/decision.ts';
import type { RemoveOwnerHints } from '../protocols/owner-hint.ts';
import type { Discoverer } from '../protocols/discoveries.ts';
import { headerValue, withHeader, withoutHeader, type RequestHead } from '../protocols/heads.ts';
import { unknownSessionStatus, type ErrorResponse } from '../protocols/error-responses.ts';
import { sessionKeyOf, type MachineId, type SessionKey } from '../session.ts';
import type { Cancel, Clock } from '../clock.ts';
import type { Peer } from '../fleet/directory.ts';
import { withCut } from '../http/head-text.ts';
import {
  isIdempotent,
  ResponsePipe,
  type FilteredBytes,
  type BodyFilter,
  type OutgoingResponse,
  type PipeOwner,
} from '../http/response-pipe.ts';
import {
  type ParsedRequestHead as ReceivedHead,
  formatRequest,
  type RequestChanges,
} from '../http/request-head.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import type { IncomingRequestListener, IncomingRequest } from '../http/incoming-request.ts';
import type { UpstreamError } from '../http/upstream-error.ts';
import type { UpstreamPool } from '../http/upstream-pool.ts';
import type { ReleaseReason } from '../observability/metrics.ts';
import type { Activity } from './activity.ts';
import type { Answers, Revealed } from './answers.ts';
import type { Bindings } from './bindings.ts';
import { networkOf } from './client-network.ts';
import { refusalOfFailure, wasRefused } from './failure.ts';
import {
  FORWARD_PATH,
  hasRefusal,
  readPeerRefusal,
  REFUSED_HEADER,
  wrapHead,
} from './forward-head.ts';
import { MAX_ID_BODY_BYTES, MAX_ID_WAIT_MS, requestIdIn } from './json-rpc-id.ts';
import type { FinishedRequest, RequestObserver } from './observer.ts';
import type { OpenStreams, StreamSort } from './open-streams.ts';
import { collectBody } from './request-body.ts';
import type { OlderSessions } from './older-sessions.ts';
import { readEdgeFields, type ArrivedRequest, type EdgeFields } from '../routing/facts.ts';
import { errorResponse, unreachable, type Action } from '../routing/respond.ts';
import type { Routed, Router } from '../routing/route.ts';
import { parseReplayFailure, type ReplayFailureReason } from '../fly.ts';
import { RequestTimes } from './request-times.ts';
import { SessionStream } from './session-stream.ts';
import type { Via } from './via.ts';

/** What every request shares. */
export interface ProxyParts {
  readonly self: MachineId;
  readonly router: Pick<
    Router,
    'route' | 'decideEarly' | 'elsewhere' | 'toWinner' | 'withoutPlace'
  >;
  readonly actionFor: (routed: Routed) => Action;
  /** A request has come back undelivered, or pretends to. */
  readonly onReplayFailed: (reason: ReplayFailureReason | 'other') => void;
  readonly answers: Answers;
  readonly bindings: Bindings;
  readonly openStreams: OpenStreams;
  readonly olderSessions: Pick<OlderSessions, 'isDead'>;
  readonly learner: Pick<Discoverer, 'mayRevealInBody'>;
  readonly removeHints: RemoveOwnerHints;
  /** Takes the affinity cookie out of a request's fields; the very array if it is not there. */
  readonly removeCookie: (rawHeaders: readonly string[]) => readonly string[];
  readonly upstream: UpstreamPool;
  /** `host:port` of the app, for a request of HTTP/1.0 that names none (RFC 9110 §7.2). */
  readonly upstreamHost: string;
  readonly peers: { to(peer: Peer): UpstreamPool };
  /** Watches a forward until its response begins: fails it if its peer does not answer at all. */
  readonly watchForward: (machine: MachineId, onUnresponsive: () => void) => Cancel;
  /** The app has refused a connection. */
  readonly onRefused: () => void;
  /** Names, in lower case, of fields that reveal ids: none of them is passed on before its time. */
  readonly revealingHeaders: ReadonlySet<string>;
  /** A peer has said that a session is not its own, as this Machine had thought. */
  readonly onMoved: (key: SessionKey, machine: MachineId) => void;
  /** A forward for this decision got a response from its Machine. */
  readonly onForwarded: (decision: Decision) => void;
  /** Told of each request, from its beginning to its end. */
  readonly activity: Pick<Activity, 'begin' | 'end'>;
  readonly via: Via;
  /** Whether `Fly-Client-IP` is the edge's word: off Fly.io anyone may write it. */
  readonly trustsClientIp: boolean;
  readonly createRequestId: () => string;
  readonly clock: Clock;
  readonly observer: RequestObserver;
  readonly onFault: (error: unknown) => void;
}

const CLIENT_LEFT = 499;
const PROCESSING = 102;
const NO_SESSIONS: readonly SessionKey[] = [];
/** RFC 9110 §9.2.1. Upgrades are GETs. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);
const IPV4_MAPPED = '::ffff:';
const AS_IT_CAME: OutgoingResponse = { rawHeaders: undefined };

/** What goes out of a request: its own fields less more cuts, or others. */
type SentFields = Pick<RequestChanges, 'target' | 'cuts'> &
  Partial<Pick<RequestChanges, 'rawHeaders'>>;

type State =
  | { readonly kind: 'routing' }
  | { readonly kind: 'relaying'; readonly relay: ResponsePipe; readonly to: 'app' | 'peer' }
  | { readonly kind: 'responding' }
  | { readonly kind: 'closed' };

const ROUTING: State = { kind: 'routing' };
const RESPONDING: State = { kind: 'responding' };
const CLOSED: State = { kind: 'closed' };

export class ProxiedRequest implements ArrivedRequest, PipeOwner, IncomingRequestListener {
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  readonly fields: EdgeFields;
  readonly placedBy: MachineId | undefined;
  readonly #exchange: IncomingRequest;
  readonly #parts: ProxyParts;
  readonly #times: RequestTimes;
  #state: State = ROUTING;
  #routed: Routed | undefined;
  #stream: SessionStream | undefined;
  /** Sessions of this Machine that are in use while the response is on its way. */
  #sessions: readonly SessionKey[] = NO_SESSIONS;
  #statusCode = 0;
  /** What is wrong with it if it is malformed, or why its stream was broken off. */
  #reason: string | undefined;
  #generatedId: string | undefined;
  /** The peer has said that it has taken the forward. */
  #isTaken = false;
  /** The head of the response waits for a commit. */
  #isHeld = false;
  #isCounted = false;
  /** What of the body was read for an upstream that could not be reached. */
  #unsentBody: Buffer | undefined;
  /** Ends what peers are told of a claim that may come of this request. */
  #endClaim: (() => void) | undefined;
  #stopWatching: Cancel | undefined;

  constructor(
    exchange: IncomingRequest,
    from: 'edge' | 'peer',
    head: RequestHead,
    parts: ProxyParts,
    placedBy?: MachineId,
  ) {
    this.#exchange = exchange;
    this.placedBy = placedBy;
    this.from = from;
    this.head = head;
    this.fields = readEdgeFields(head.rawHeaders);
    this.#parts = parts;
    this.#times = new RequestTimes(parts.clock);
    parts.activity.begin();
    exchange.listen(this);
  }

  get bodyLength(): number | undefined {
    const { isChunked, contentLength } = this.#exchange.head;
    return isChunked ? undefined : (contentLength ?? 0);
  }

  /** The client's address where the edge tells it, else its connection. */
  get source(): string {
    const { clientIp } = this.fields;
    const isTold = this.#parts.trustsClientIp && clientIp !== undefined;
    return isTold ? networkOf(clientIp) : this.#exchange.connectionName;
  }

  /** The id that the edge has given it, else one of our own. */
  get requestId(): string {
    return this.fields.requestId ?? (this.#generatedId ??= this.#parts.createRequestId());
  }

  /** Routes the request, and has the app, a peer or this sidecar respond. */
  run(): void {
    const { replayFailed } = this.fields;
    if (replayFailed !== undefined && this.from === 'edge')
      this.#parts.onReplayFailed(parseReplayFailure(replayFailed).reason ?? 'other');
    const routed = this.#parts.router.route(this);
    if (!(routed instanceof Promise)) this.#carryOut(routed);
    else
      routed
        .then((settled) => this.#carryOut(settled))
        .catch((error: unknown) => this.onFault(error));
  }

  #carryOut(routed: Routed): void {
    const action = this.#parts.actionFor(routed);
    switch (action.kind) {
      case 'local':
        this.#toApp(routed);
        break;
      case 'forward':
        this.#toPeer(action.peer, routed);
        break;
      case 'respond':
        this.#respond(action.response, routed);
        break;
    }
  }

  /** Responds before the owner lookup. */
  refuse(why: 'loop-detected' | 'overloaded'): void {
    this.#carryOut(this.#parts.router.decideEarly(why));
  }

  #respond(refusal: ErrorResponse, routed: Routed): void {
    // The client may have disconnected during the owner lookup.
    if (this.#state.kind === 'closed') return;
    this.#routed = routed;
    this.#state = RESPONDING;
    const { bodyFor } = refusal;
    const exchange = this.#exchange;
    // A client that waits for a 100 (Continue) will not send its body.
    if (!bodyFor || !exchange.hasBody || exchange.head.expectsContinue || exchange.isReadingBody) {
      this.#write(refusal, routed);
      return;
    }
    const options = {
      maxBytes: MAX_ID_BODY_BYTES,
      timeoutMs: MAX_ID_WAIT_MS,
      clock: this.#parts.clock,
    };
    collectBody(
      exchange,
      options,
      (body) =>
        this.#guarded(() => {
          const requestId = typeof body === 'string' ? undefined : requestIdIn(body);
          const text = requestId === undefined ? refusal.body : bodyFor(requestId);
          if (body === 'broken') this.onMalformedBody(BROKEN);
          else this.#write({ ...refusal, body: text }, routed);
        }),
      () => this.onClientDisconnected(),
    );
  }

  #write({ status, headers, body }: ErrorResponse, { decision }: Routed, closes = false): void {
    const isRefusedMove = decision.kind === 'refuse' && decision.status === 421;
    this.#statusCode = status;
    this.#times.noteWritten();
    this.#count();
    this.#exchange.listen(this);
    this.#exchange.respond(
      { status, headers: isRefusedMove ? [...headers, REFUSED_HEADER, 'moved'] : headers, body },
      closes,
    );
    this.#close();
  }

  /** Responds to a request that can't be understood, and ends its connection. */
  refuseMalformed({ status, reason }: MalformedRequest): void {
    const routed = this.#parts.router.decideEarly('malformed-request');
    this.#routed = routed;
    this.#reason = reason;
    this.#state = RESPONDING;
    const body = `${status === 408 ? 'The request was not sent in time' : 'The request is refused'}: ${reason}.\n`;
    const headers = ['content-type', 'text/plain; charset=utf-8'];
    this.#write({ status, headers, body }, routed, true);
  }

  #toApp(routed: Routed): void {
    // The client may have disconnected during the owner lookup.
    if (this.#state.kind === 'closed') return;
    const { upstream, upstreamHost } = this.#parts;
    const { host, authority } = this.#exchange.head;
    const fields = this.#fieldsForApp(routed);
    const { rawHeaders = [] } = fields;
    const { decision, key } = routed;
    if (decision.kind === 'local' && decision.mayClaim && key !== undefined)
      this.#endClaim ??= this.#parts.bindings.beginClaim(key);
    const named = this.from === 'edge' ? host : headerValue(rawHeaders, 'host');
    const hostLine = named === undefined ? `Host: ${authority ?? upstreamHost}\r\n` : '';
    this.#relay(upstream, 'app', fields, hostLine, routed);
  }

  /** Without what the sidecar has added for the client to bring along. */
  #fieldsForApp({ ids, wholeId }: Routed): SentFields {
    const { removeHints, removeCookie, learner } = this.#parts;
    const { head } = this;
    const clean = removeHints(head, wholeId);
    const isToBePlain = learner.mayRevealInBody(head, ids);
    if (this.from === 'edge' && !isToBePlain && removeCookie(head.rawHeaders) === head.rawHeaders) {
      const { target } = clean;
      if (clean.rawHeaders === head.rawHeaders) return { target };
      const cuts = cutsOf(this.#exchange.head, clean.rawHeaders);
      if (cuts) return { target, cuts };
    }
    const { target, rawHeaders } = removeHints(this.#whole(), wholeId);
    const cleaned = removeCookie(rawHeaders);
    return {
      target,
      rawHeaders: isToBePlain ? withHeader(cleaned, 'accept-encoding', 'identity') : cleaned,
    };
  }

  /** The request with all its fields. */
  #whole(): RequestHead {
    if (this.from === 'peer') return this.head;
    return { ...this.head, rawHeaders: this.#exchange.head.rawHeaders };
  }

  #toPeer(peer: Peer, routed: Routed): void {
    const placedBy = routed.decision.why === 'placed' ? this.#parts.self : undefined;
    const host = `${peer.host}:${peer.port}`;
    const rawHeaders = wrapHead(this.#whole(), peer.machine, host, placedBy);
    const pool = this.#parts.peers.to(peer);
    const fields = { target: FORWARD_PATH, rawHeaders };
    if (this.#relay(pool, 'peer', fields, '', routed)) this.#watch(peer.machine);
  }

  #relay(
    pool: UpstreamPool,
    to: 'app' | 'peer',
    { target, rawHeaders, cuts }: SentFields,
    hostLine: string,
    routed: Routed,
  ): boolean {
    // The client may have disconnected during the owner lookup.
    if (this.#state.kind === 'closed') return false;
    const exchange = this.#exchange;
    const { via } = this.#parts;
    this.#routed = routed;
    const asksForUpgrade = exchange.head.upgrade !== undefined;
    const head = formatRequest(exchange.head, {
      target,
      rawHeaders,
      cuts,
      added: hostLine + this.#forwardedLines() + via.lineFor(exchange.head.minorVersion),
      asksForUpgrade,
    });
    const request = {
      method: exchange.head.method,
      head,
      body: this.#takeBody(),
      isComplete: exchange.isBodyComplete,
      upgrade: exchange.head.upgrade,
    };
    const relay = new ResponsePipe(exchange, pool, request, this);
    this.#state = { kind: 'relaying', relay, to };
    this.#times.noteSent();
    relay.start();
    return true;
  }

  #takeBody(): Buffer | undefined {
    const unsent = this.#unsentBody;
    this.#unsentBody = undefined;
    return unsent ?? this.#exchange.takeEarly();
  }

  /** `x-forwarded-for` and `-proto` of the edge stay; they are added only where they are missing. */
  #forwardedLines(): string {
    const { hasForwardedFor, hasForwardedProto } = this.#exchange.head;
    let lines = '';
    if (!hasForwardedFor)
      lines += `X-Forwarded-For: ${plainAddress(this.#exchange.remoteAddress)}\r\n`;
    if (!hasForwardedProto) lines += 'X-Forwarded-Proto: http\r\n';
    return lines;
  }

  #watch(machine: MachineId): void {
    const state = this.#state;
    if (state.kind !== 'relaying') return;
    this.#stopWatching = this.#parts.watchForward(machine, () =>
      this.#guarded(() =>
        state.relay.fail('peer-unresponsive', 'the sidecar of the owner does not answer'),
      ),
    );
  }

  // What the upstream responds

  onInterim({ statusCode, rawHeaders }: ParsedResponseHead): readonly string[] | undefined {
    // A peer's word that it has taken the forward, which is for this sidecar alone.
    const isToPeer = this.#state.kind === 'relaying' && this.#state.to === 'peer';
    if (isToPeer && statusCode === PROCESSING && !this.#isTaken) {
      this.#isTaken = true;
      return undefined;
    }
    const passed: string[] = [];
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
      const name = rawHeaders[i] ?? '';
      // An id that is not bound yet must not be revealed (invariant 1).
      if (!this.#parts.revealingHeaders.has(name.toLowerCase()))
        passed.push(name, rawHeaders[i + 1] ?? '');
    }
    return passed;
  }

  onResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    this.#stopWatching?.();
    this.#times.noteResponse();
    const state = this.#state;
    const routed = this.#routed;
    if (state.kind !== 'relaying' || !routed) return undefined;
    return state.to === 'peer' ? this.#ofPeer(head, routed) : this.#ofApp(head, routed);
  }

  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    return this.onResponse(head);
  }

  #ofApp(
    head: ParsedResponseHead,
    routed: Routed,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    const { statusCode } = head;
    if (isFalseNotFound(routed, statusCode)) {
      this.#takeOver(() => this.#respond(unreachable(routed), routed));
      return undefined;
    }
    if (routed.key && this.#parts.olderSessions.isDead(this.head, routed, head)) {
      this.#parts.bindings.end(routed.key);
      this.#takeOver(() =>
        this.#respond(errorResponse(404, 'unknown-session', routed.ids), routed),
      );
      return undefined;
    }
    const isToPeer = this.from === 'peer' && hasRefusal(head.rawHeaders);
    const response = isToPeer
      ? { statusCode, rawHeaders: withoutHeader(head.rawHeaders, REFUSED_HEADER) }
      : head;
    const revealed = this.#parts.answers.fromHead(this.head, routed, response);
    const own = isToPeer ? response.rawHeaders : undefined;
    this.#isHeld = revealed instanceof Promise;
    if (revealed instanceof Promise)
      return revealed.then((settled) => this.#passUnlessLost(settled, own, routed));
    this.#endClaim?.();
    return this.#passageOf(revealed, own);
  }

  /** Who loses a claim sends the client to the winner, if the request may be repeated (invariant 1). */
  #passUnlessLost(
    revealed: Revealed,
    own: readonly string[] | undefined,
    routed: Routed,
  ): OutgoingResponse | undefined {
    this.#endClaim?.();
    const { lostTo } = revealed;
    if (lostTo === undefined || !this.#mayRepeat()) return this.#passageOf(revealed, own);
    // The client may have disconnected meanwhile.
    if (this.#state.kind === 'closed') return undefined;
    this.#takeOver(() => this.#carryOut(this.#parts.router.toWinner(this, routed, lostTo)));
    return undefined;
  }

  /** A safe request, or an upgrade; its body would be gone. */
  #mayRepeat(): boolean {
    return SAFE.has(this.head.method) && !this.#exchange.hasBody;
  }

  #passageOf(
    { rawHeaders, tap, sessions }: Revealed,
    own: readonly string[] | undefined,
  ): OutgoingResponse {
    this.#sessions = sessions;
    if (!tap && rawHeaders === undefined && own === undefined) return AS_IT_CAME;
    const shown = rawHeaders ?? own;
    return tap ? { rawHeaders: shown, inspector: this.#inspectorOf(tap) } : { rawHeaders: shown };
  }

  /** A forwarded response is never inspected, as its owner has done that; a peer's own refusal is. */
  #ofPeer(head: ParsedResponseHead, routed: Routed): OutgoingResponse | undefined {
    const { onMoved, onForwarded } = this.#parts;
    const refusal = readPeerRefusal(head.statusCode, head.rawHeaders);
    if (!refusal) {
      onForwarded(routed.decision);
      return AS_IT_CAME;
    }
    // Who refuses a session that was placed on it says nothing of the owner that it was taken from.
    const isOfOwner = routed.decision.kind === 'forward' && routed.decision.to === routed.owner;
    if (refusal === 'moved' && isOfOwner && routed.key && routed.owner)
      onMoved(routed.key, routed.owner);
    this.#takeOver(() => this.#respond(unreachable(routed), routed));
    return undefined;
  }

  /** The response is the sidecar's own, once the relay has let go of its upstream. */
  #takeOver(respond: () => void): void {
    const state = this.#state;
    if (state.kind === 'relaying') state.relay.abort();
    this.#state = ROUTING;
    this.#exchange.listen(this);
    respond();
  }

  #inspectorOf(tap: BodyInspector): BodyFilter {
    const inspected = ({ out, discovered: lesson, isDone }: InspectedChunk): FilteredBytes => ({
      out,
      until: lesson && this.#bind(lesson),
      isDone,
    });
    return { push: (bytes) => inspected(tap.push(bytes)), end: () => inspected(tap.end()) };
  }

  #bind(lesson: DiscoveredId): Promise<void> {
    const key = sessionKeyOf(lesson.id);
    return this.#parts.answers.fromBody(lesson).then(() => {
      if (lesson.protocol.endsBy === 'stream-end') this.#openStream().carry(key);
    });
  }

  onResponseStarted(statusCode: number, isStream: boolean, head: ParsedResponseHead): void {
    this.#statusCode = statusCode;
    this.#count();
    this.#times.noteWritten(this.#isHeld);
    if (isStream) this.#openStream().open('http', sortOf(head), this.#sessions);
  }

  onTunnel(statusCode: number): void {
    this.#statusCode = statusCode;
    this.#count();
    this.#times.noteWritten();
    this.#openStream().open('websocket', 'endless', this.#sessions);
  }

  #openStream(): SessionStream {
    const { bindings, openStreams, observer } = this.#parts;
    const onReleased = (why: ReleaseReason): void => this.#guarded(() => this.#breakOff(why));
    return (this.#stream ??= new SessionStream({ bindings, openStreams, observer, onReleased }));
  }

  /** The session of the stream is released: the client is to reconnect, and to reach its owner. */
  #breakOff(why: ReleaseReason): void {
    const state = this.#state;
    if (state.kind !== 'relaying') return;
    this.#reason = REASONS_OF_RELEASE[why];
    state.relay.abortBoth();
    this.#close();
  }

  onFailed(error: UpstreamError): void {
    this.#stopWatching?.();
    const state = this.#state;
    const routed = this.#routed;
    const { observer, answers } = this.#parts;
    observer.onUpstreamFailure(error, this.#finished());
    this.#times.noteResponse();
    if (state.kind !== 'relaying' || !routed) return;
    this.#state = ROUTING;
    this.#exchange.listen(this);
    if (this.#isInFlightHere(error, routed, state.relay)) return;
    // Whether the client may send it again without doing it twice. A peer says at once that it has taken
    // a forward, before its app sees anything of it.
    const isUntaken =
      state.to === 'peer' && error.code === 'connection-lost' && !error.hasReceivedBytes;
    const mayRepeat = error.wasNotSent || isUntaken || isIdempotent(this.head.method);
    if (state.to === 'peer' && mayRepeat) this.#respond(unreachable(routed), routed);
    else if (state.to === 'peer' || !this.#goesElsewhere(error, routed)) {
      const refusal = refusalOfFailure(error, mayRepeat);
      const isNobodyThere = state.to === 'app' && wasRefused(error);
      this.#respond(isNobodyThere ? answers.ofNobody(refusal, this.head, routed) : refusal, routed);
    }
  }

  /** The Machine on which a new session was placed can't be reached: nobody has it, so it begins here. */
  #isInFlightHere(error: UpstreamError, routed: Routed, relay: ResponsePipe): boolean {
    const { decision } = routed;
    const isPlaced = decision.kind === 'forward' && decision.why === 'placed';
    if (!isPlaced || !error.wasNotSent) return false;
    const body = relay.takeBody();
    if (body === undefined) return false;
    this.#unsentBody = body.length === 0 ? undefined : body;
    const here = this.#parts.router.withoutPlace(routed);
    if (here) this.#carryOut(here);
    else this.#respond(unreachable(routed), routed);
    return true;
  }

  /** Nothing has reached the app, and the edge has the request whole. */
  #goesElsewhere(error: UpstreamError, routed: Routed): boolean {
    if (!wasRefused(error)) return false;
    this.#parts.onRefused();
    const elsewhere = this.#parts.router.elsewhere(this, routed);
    if (elsewhere) this.#carryOut(elsewhere);
    return elsewhere !== undefined;
  }

  onResponseAborted(error: UpstreamError): void {
    this.#parts.observer.onUpstreamFailure(error, this.#finished());
    this.#close();
  }

  onFinished(): void {
    this.#close();
  }

  /** What is thrown while the request is served ends the request and its connection. */
  onFault(error?: unknown): void {
    if (error !== undefined) this.#parts.onFault(error);
    this.#exchange.destroy();
    if (this.#state.kind === 'closed') return;
    if (this.#statusCode === 0) this.#statusCode = 500;
    this.#close();
  }

  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.onFault(error);
    }
  }

  // What the client does meanwhile

  onRequestBody(): void {
    // Nobody wants the body any more: it is dropped.
  }

  onRequestEnd(): void {
    // Nobody waits for it.
  }

  /** What follows the head is no HTTP/1.1: the one response that is due says so. */
  onMalformedBody(why: MalformedRequest): void {
    if (this.#state.kind === 'closed') return;
    this.#stopWatching?.();
    this.refuseMalformed(why);
  }

  onClientWritable(): void {
    // Nothing is held back for it.
  }

  onClientDisconnected(): void {
    if (this.#state.kind === 'closed') return;
    this.#statusCode = CLIENT_LEFT;
    this.#close();
  }

  /** The response is out, or the client has gone: whatever was started ends here. */
  #close(): void {
    if (this.#state.kind === 'closed') return;
    this.#state = CLOSED;
    this.#stopWatching?.();
    this.#endClaim?.();
    this.#stream?.close();
    this.#count();
    this.#parts.activity.end();
    this.#parts.observer.onFinished(this.#finished());
  }

  /** As the log line says in the end. */
  #count(): void {
    if (this.#isCounted || !this.#routed) return;
    this.#isCounted = true;
    this.#parts.observer.onDecided(this.#routed.decision);
  }

  #finished(): FinishedRequest {
    const { totalMs, sidecarMs, upstreamMs } = this.#times.durations();
    return {
      requestId: this.requestId,
      method: this.head.method,
      target: this.head.target,
      routed: this.#routed,
      reason: this.#reason,
      statusCode: this.#statusCode,
      totalMs,
      sidecarMs,
      upstreamMs,
    };
  }
}

const BROKEN: MalformedRequest = { status: 400, reason: 'the body is not framed as its head says' };

/** In the access log. */
const REASONS_OF_RELEASE: Readonly<Record<ReleaseReason, string>> = {
  outranked: 'another Machine owns the session',
  moved: 'the session was moved to another Machine',
  deleted: 'the session was deleted',
};

/** Of a response whose length is not known. */
function sortOf({ rawHeaders }: ParsedResponseHead): StreamSort {
  const type = headerValue(rawHeaders, 'content-type');
  return type !== undefined && ENDLESS_TYPES.test(type) ? 'endless' : 'maybe-finite';
}

const ENDLESS_TYPES = /^\s*(text\/event-stream|multipart\/x-mixed-replace)\b/i;

/**
 * The app beside us does not know this id, and a Machine that may know it did not answer. Its "not
 * found" would make the client give a live session up (invariant 11).
 */
function isFalseNotFound({ decision, ids }: Routed, statusCode: number): boolean {
  const isInDoubt = decision.kind === 'local' && decision.isInDoubt === true;
  if (!isInDoubt || ids.kind !== 'found') return false;
  return statusCode === unknownSessionStatus(ids.protocol);
}

/** The cuts that make these of the selected fields; undefined if more than their ends is to go. */
function cutsOf(
  { cuts, selected, selectedAt }: ReceivedHead,
  cleaned: readonly string[],
): readonly number[] | undefined {
  let all = cuts;
  for (let i = 0; i < selectedAt.length; i += 1) {
    const value = selected[2 * i + 1] ?? '';
    const kept = cleaned[2 * i + 1] ?? '';
    if (kept === value) continue;
    if (!value.startsWith(kept)) return undefined;
    const at = selectedAt[i] ?? 0;
    all = withCut(all, at + kept.length, at + value.length);
  }
  return all;
}

/** An IPv4 address that a socket for both families shows in IPv6 form. */
function plainAddress(address: string): string {
  const isMapped = address.startsWith(IPV4_MAPPED) && address.includes('.');
  return isMapped ? address.slice(IPV4_MAPPED.length) : address;
}

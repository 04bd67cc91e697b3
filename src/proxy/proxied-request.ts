/**
 * One request and its response, from its arrival to its log line: routing decides, then an attempt
 * serves the request, or the sidecar itself responds.
 *
 *   (READING BODY)
 *       v
 *   ROUTING ─local─> APP ATTEMPT ───┬─response complete────────────────> CLOSED
 *    ^  │ └─forward─> PEER ATTEMPT ─┤
 *    │  │                           ├─no response, and it may go elsewhere─> ROUTING
 *    │  └─respond─> RESPONDING <────┴─no response
 *    │                  └──────────────────────────────────────────────> CLOSED
 *
 * A client that disconnects closes it from any state.
 */
import { parseReplayFailure } from '../fly.ts';
import type { IncomingRequest, IncomingRequestListener } from '../http/incoming-request.ts';
import type { MalformedRequest } from '../http/request-head.ts';
import type { UpstreamError } from '../http/upstream-request.ts';
import type { ErrorResponse } from '../protocols/error-responses.ts';
import type { RequestHead } from '../protocols/heads.ts';
import { isReadableBody } from '../protocols/request-ids.ts';
import type { Routed } from '../routing/route.ts';
import type { MachineId } from '../session.ts';
import { AppAttempt } from './app-attempt.ts';
import { afterAppFailure, afterPeerFailure } from './attempt-failures.ts';
import type { AttemptedRequest } from './attempt.ts';
import { REFUSED_HEADER, type ForwardNotes } from './forwarded-head.ts';
import { PeerAttempt } from './peer-attempt.ts';
import type { ProxyParts } from './proxy-parts.ts';
import { ReceivedRequest } from './received-request.ts';
import type { RequestRecord } from './request-record.ts';
import { corsHeadersFor, nameRequest, responseToMalformed } from './sidecar-response.ts';
import type { HeldRequest } from './start-gate.ts';

/** `reading body`: an id may be in it. An attempt is a state by itself. */
type State =
  'reading body' | 'routing' | 'awaiting app' | 'responding' | 'closed' | AppAttempt | PeerAttempt;

export class ProxiedRequest
  extends ReceivedRequest
  implements AttemptedRequest, IncomingRequestListener, HeldRequest
{
  readonly record: RequestRecord;
  readonly #parts: ProxyParts;
  #state: State = 'routing';
  /** The part of the body that was read for an unreachable upstream. */
  #unsentBody: Buffer | undefined;
  #endHold: (() => void) | undefined;

  constructor(
    incoming: IncomingRequest,
    from: 'edge' | 'peer',
    head: RequestHead,
    parts: ProxyParts,
    notes?: ForwardNotes,
  ) {
    super(incoming, from, head, parts, notes);
    this.#parts = parts;
    this.record = parts.recorder.begin();
    incoming.listen(this);
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  run(): void {
    const { replayFailed } = this.fields;
    if (replayFailed !== undefined && this.from === 'edge')
      this.#parts.onReplayFailed(parseReplayFailure(replayFailed).reason ?? 'other');
    if (!this.#mayHaveIdInBody()) this.#route();
    else if (this.incoming.isBodyComplete) this.#routeWithBody();
    else this.#holdBody();
  }

  #holdBody(): void {
    const { contentLength = 0 } = this.incoming.head;
    this.#endHold = this.#parts.heldBodies.begin(contentLength, () => this.#routeWithoutBody());
    if (this.#endHold) {
      this.#state = 'reading body';
      this.incoming.holdBody();
    } else this.#route();
  }

  #mayHaveIdInBody(): boolean {
    return isReadableBody(this.incoming.head) && this.#parts.mayHaveIdInBody(this.head);
  }

  /** The body is too slow: the app gets it as it comes. */
  #routeWithoutBody(): void {
    if (this.#state !== 'reading body') return;
    this.#state = 'routing';
    this.#guarded(() => this.#route());
  }

  /** The body stays with the request. */
  #routeWithBody(): void {
    this.#state = 'routing';
    this.#endHold?.();
    this.head = { ...this.head, body: this.incoming.peekEarly().toString('latin1') };
    this.#route();
  }

  /** Routes the request and carries out the decision. */
  #route(): void {
    const routed = this.#parts.router.route(this, this.#parts.traceFor?.(this));
    if (!(routed instanceof Promise)) this.#carryOut(routed);
    else
      routed
        .then((result) => this.#carryOut(result))
        .catch((error: unknown) => this.onFault(error));
  }

  #carryOut(routed: Routed): void {
    // The client may have disconnected during the owner lookup.
    if (this.isClosed) return;
    const action = this.#parts.actionFor(routed, this.span?.id);
    this.record.routed = routed;
    switch (action.kind) {
      case 'local':
        if (this.#parts.startGate.isOpen) this.#attempt(new AppAttempt(this, routed, this.#parts));
        else this.#awaitApp();
        break;
      case 'forward':
        this.#attempt(new PeerAttempt(this, action.peer, routed, this.#parts));
        break;
      case 'respond':
        this.#respond(action.response);
        break;
    }
  }

  #attempt(attempt: AppAttempt | PeerAttempt): void {
    this.#state = attempt;
    attempt.start();
  }

  // Before the app listens

  #awaitApp(): void {
    if (this.#parts.startGate.hold(this)) this.#state = 'awaiting app';
    else this.refuse('app-starting');
  }

  /** Routes anew: another Machine may have claimed the session meanwhile. */
  onGateOpen(): void {
    this.#state = 'routing';
    this.#guarded(() => this.#route());
  }

  onGateRefused(): void {
    this.#state = 'routing';
    this.#guarded(() => this.refuse('app-starting'));
  }

  takeBody(): Buffer | undefined {
    const unsent = this.#unsentBody;
    this.#unsentBody = undefined;
    return unsent ?? this.incoming.takeEarly();
  }

  // Responses of the sidecar itself

  /** Before the owner lookup. */
  refuse(why: 'loop-detected' | 'overloaded' | 'app-starting'): void {
    this.#carryOut(this.#parts.router.decideEarly(why));
  }

  /** For a malformed request: its connection ends with the response. */
  refuseMalformed(why: MalformedRequest): void {
    this.record.routed = this.#parts.router.decideEarly('malformed-request');
    this.record.reason = why.reason;
    this.#state = 'responding';
    this.#write(responseToMalformed(why), true);
  }

  respondInstead(response: ErrorResponse): void {
    this.#abortAttempt();
    this.#respond(response);
  }

  goToWinner(winner: MachineId): void {
    const routed = this.record.routed;
    this.#abortAttempt();
    if (routed) this.#carryOut(this.#parts.router.toWinner(this, routed, winner));
  }

  #respond(response: ErrorResponse): void {
    this.#state = 'responding';
    nameRequest(this.incoming, response, this.#parts.clock, {
      onReady: (named) => this.#guarded(() => this.#write(named)),
      onMalformedBody: (why) => this.#guarded(() => this.onMalformedBody(why)),
      onClientDisconnected: () => this.onClientDisconnected(),
    });
  }

  #write({ status, meaning = status, headers, body }: ErrorResponse, closes = false): void {
    const decision = this.record.routed?.decision;
    const isRefusedMove = decision?.kind === 'refuse' && decision.status === 421;
    const sent = isRefusedMove ? [...headers, REFUSED_HEADER, 'moved'] : headers;
    const readable = status >= 400 ? [...sent, ...corsHeadersFor(this.incoming.head)] : sent;
    this.record.noteOwnResponse(meaning);
    this.record.noteStarted(status);
    this.incoming.listen(this);
    this.incoming.respond({ status, headers: readable, body }, closes);
    this.#close();
  }

  // Results of an attempt

  onAttemptFailed(error: UpstreamError): void {
    const attempt = this.#currentAttempt;
    if (!attempt) return;
    attempt.close();
    this.#state = 'routing';
    this.incoming.listen(this);
    const next =
      attempt.kind === 'app'
        ? afterAppFailure(this, attempt, error, this.#parts)
        : afterPeerFailure(this, attempt, error, this.#parts);
    this.#unsentBody = next.unsentBody;
    if (next.routed) this.#carryOut(next.routed);
    else this.#respond(next.response);
  }

  onFinished(): void {
    this.#close();
  }

  /** An exception while the request is served ends the request and its connection. */
  onFault(error?: unknown): void {
    if (error !== undefined) this.#parts.onFault(error);
    this.incoming.destroy();
    if (this.isClosed) return;
    if (this.record.statusCode === 0) this.record.statusCode = 500;
    this.#close();
  }

  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.onFault(error);
    }
  }

  // Events of the client while there is no attempt

  onRequestBody(): void {
    // No upstream needs the body any more: it is dropped.
  }

  onRequestEnd(): void {
    if (this.#state === 'reading body') this.#guarded(() => this.#routeWithBody());
  }

  onClientWritable(): void {
    // Nothing is held back for it.
  }

  /** The body is malformed: the pending response reports that. */
  onMalformedBody(why: MalformedRequest): void {
    if (this.isClosed) return;
    this.#currentAttempt?.close();
    this.refuseMalformed(why);
  }

  onClientDisconnected(): void {
    if (this.isClosed) return;
    this.record.noteDisconnected();
    this.#close();
  }

  get #currentAttempt(): AppAttempt | PeerAttempt | undefined {
    const state = this.#state;
    return typeof state === 'string' ? undefined : state;
  }

  /** Ends the attempt without a response; the sidecar continues without that upstream. */
  #abortAttempt(): void {
    const attempt = this.#currentAttempt;
    attempt?.pipe.abort();
    attempt?.close();
    this.#state = 'routing';
    this.incoming.listen(this);
  }

  /** The response is complete, or the client has disconnected: ends everything that was started. */
  #close(): void {
    if (this.isClosed) return;
    this.#currentAttempt?.close();
    this.#endHold?.();
    if (!this.#parts.startGate.isOpen) this.#parts.startGate.release(this);
    this.#state = 'closed';
    this.record.end(this);
  }
}

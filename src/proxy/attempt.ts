/** One attempt to serve a request by an upstream: the shared part of the attempts at the app and at a peer. */
import type { MalformedRequest } from '../http/request-head.ts';
import type { OutgoingResponse, PipeOwner } from '../http/pipe-owner.ts';
import { ResponsePipe } from '../http/response-pipe.ts';
import type { ParsedResponseHead } from '../http/response-head.ts';
import type { SerializedRequest, UpstreamError } from '../http/upstream-request.ts';
import type { UpstreamPool } from '../http/upstream-pool.ts';
import type { ReleaseReason, Metrics } from '../observability/metrics.ts';
import type { ErrorResponse } from '../protocols/error-responses.ts';
import type { Routed } from '../routing/route.ts';
import type { MachineId, SessionKey } from '../session.ts';
import type { ReceivedRequest } from './received-request.ts';
import type { RequestRecord } from './request-record.ts';
import { headerValue } from '../protocols/heads.ts';
import type { Bindings } from './bindings.ts';
import type { OpenStreams, StreamLength } from './open-streams.ts';

/** The request behind an attempt. It closes the attempt in every case. */
export interface AttemptedRequest extends ReceivedRequest {
  readonly record: RequestRecord;
  readonly isClosed: boolean;
  /** The part of the body that was received already; returned once. */
  takeBody(): Buffer | undefined;
  /** Ends the attempt, without a response from its upstream. */
  respondInstead(response: ErrorResponse): void;
  /** Ends the attempt: that Machine has won the claim. */
  goToWinner(winner: MachineId): void;
  /** The attempt failed before a response, so the request still needs one. */
  onAttemptFailed(error: UpstreamError): void;
  onMalformedBody(why: MalformedRequest): void;
  onClientDisconnected(): void;
  onFinished(): void;
  onFault(error?: unknown): void;
}

export interface AttemptParts extends Omit<SessionStreamParts, 'onReleased'> {
  /** Names, in lower case, of fields that reveal ids: none is passed on before its id is bound. */
  readonly revealingHeaders: ReadonlySet<string>;
}

const NO_SESSIONS: readonly SessionKey[] = [];

/** In the access log. */
const REASONS_OF_RELEASE: Readonly<Record<ReleaseReason, string>> = {
  outranked: 'another Machine owns the session',
  moved: 'the session was moved to another Machine',
  deleted: 'the session was deleted',
};

export abstract class Attempt implements PipeOwner {
  readonly request: AttemptedRequest;
  readonly routed: Routed;
  readonly pipe: ResponsePipe;
  /** Sessions of this Machine that are in use until the response ends. */
  protected sessions = NO_SESSIONS;
  /** The head of the response waits for a commit. */
  protected isHeld = false;
  readonly #parts: AttemptParts;
  #stream: SessionStream | undefined;
  #isClosed = false;

  constructor(
    request: AttemptedRequest,
    routed: Routed,
    pool: UpstreamPool,
    sent: SerializedRequest,
    parts: AttemptParts,
  ) {
    this.request = request;
    this.routed = routed;
    this.pipe = new ResponsePipe(request.incoming, pool, sent, this);
    this.#parts = parts;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  start(): void {
    this.request.record.noteSent();
    this.pipe.start();
  }

  /** Undefined: the request continues without this response. */
  protected abstract inspect(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined;

  /** An id that is not bound yet must not be revealed (invariant 1). */
  onInterim({ rawHeaders }: ParsedResponseHead): readonly string[] | undefined {
    const passed: string[] = [];
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
      const name = rawHeaders[i] ?? '';
      if (!this.#parts.revealingHeaders.has(name.toLowerCase()))
        passed.push(name, rawHeaders[i + 1] ?? '');
    }
    return passed;
  }

  onResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    this.request.record.noteResponse();
    return this.#isClosed ? undefined : this.inspect(head);
  }

  onUpgradeResponse(
    head: ParsedResponseHead,
  ): OutgoingResponse | Promise<OutgoingResponse | undefined> | undefined {
    return this.onResponse(head);
  }

  onResponseStarted(statusCode: number, isStream: boolean, head: ParsedResponseHead): void {
    this.request.record.noteStarted(statusCode, this.isHeld);
    if (isStream) this.#openStream().open('http', lengthOf(head), this.sessions);
  }

  onTunnel(statusCode: number): void {
    this.request.record.noteStarted(statusCode);
    this.#openStream().open('websocket', 'endless', this.sessions);
  }

  /** The stream has revealed the session, which lives as long as the stream does. */
  protected carry(key: SessionKey, protocol: string): void {
    this.#openStream().carry(key, protocol);
  }

  #openStream(): SessionStream {
    const { bindings, openStreams, metrics } = this.#parts;
    const onReleased = (why: ReleaseReason): void => this.#release(why);
    const stream = (this.#stream ??= new SessionStream({
      ...{ bindings, openStreams, metrics, onReleased },
    }));
    if (this.#isClosed) stream.close();
    return stream;
  }

  /** The session of the stream is released: closes it, so that the client reconnects and reaches the owner. */
  #release(why: ReleaseReason): void {
    if (this.#isClosed) return;
    try {
      this.request.record.reason = REASONS_OF_RELEASE[why];
      this.pipe.abortBoth();
      this.request.onFinished();
    } catch (error) {
      this.request.onFault(error);
    }
  }

  onFailed(error: UpstreamError): void {
    this.request.record.noteUpstreamFailure(error, this.request.requestId);
    this.request.record.noteResponse();
    this.request.onAttemptFailed(error);
  }

  onResponseAborted(error: UpstreamError): void {
    this.request.record.noteUpstreamFailure(error, this.request.requestId);
    this.request.onFinished();
  }

  onMalformedBody(why: MalformedRequest): void {
    this.request.onMalformedBody(why);
  }

  onClientDisconnected(): void {
    this.request.onClientDisconnected();
  }

  onFinished(): void {
    this.request.onFinished();
  }

  onFault(error?: unknown): void {
    this.request.onFault(error);
  }

  /** Ends everything that the attempt has started. A second call does nothing. */
  close(): void {
    this.#isClosed = true;
    this.#stream?.close();
  }
}

type StreamKind = 'http' | 'websocket';

interface SessionStreamParts {
  readonly bindings: Pick<Bindings, 'keepAlive' | 'endWithStream'>;
  readonly openStreams: Pick<OpenStreams, 'add'>;
  readonly metrics: Pick<Metrics, 'openStreams'>;
  /** Its session is released: the stream must be closed. */
  readonly onReleased: (why: ReleaseReason) => void;
}

/** Opened once, closed once; later calls have no effect. */
class SessionStream {
  readonly #parts: SessionStreamParts;
  #kind: StreamKind | undefined;
  #length: StreamLength | undefined;
  #isClosed = false;
  #atClosing: (() => void)[] | undefined;

  constructor(parts: SessionStreamParts) {
    this.#parts = parts;
  }

  /** `keys`: the sessions of this Machine that the stream belongs to. */
  open(kind: StreamKind, length: StreamLength, keys: readonly SessionKey[]): void {
    if (this.#isClosed) return;
    this.#kind = kind;
    this.#length = length;
    this.#parts.metrics.openStreams(kind, 1);
    for (const key of keys) this.#keepAlive(key);
  }

  /** The stream has revealed this session, which lives as long as the stream, and a little longer. */
  carry(key: SessionKey, protocol: string): void {
    const { bindings } = this.#parts;
    if (!this.#isClosed) this.#keepAlive(key);
    this.#atClose(() => bindings.endWithStream(key, protocol));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#kind) this.#parts.metrics.openStreams(this.#kind, -1);
    for (const step of this.#atClosing ?? []) step();
  }

  #keepAlive(key: SessionKey): void {
    const { bindings, openStreams, onReleased } = this.#parts;
    this.#atClose(bindings.keepAlive(key));
    // A response of known length finishes, even if its session has a new owner.
    if (this.#length) this.#atClose(openStreams.add(key, this.#length, onReleased));
  }

  /** Most requests open no stream. */
  #atClose(step: () => void): void {
    if (this.#isClosed) step();
    else (this.#atClosing ??= []).push(step);
  }
}

/** For a response of unknown length. */
function lengthOf({ rawHeaders }: ParsedResponseHead): StreamLength {
  const type = headerValue(rawHeaders, 'content-type');
  return type !== undefined && ENDLESS_TYPES.test(type) ? 'endless' : 'maybe-finite';
}

const ENDLESS_TYPES = /^\s*(text\/event-stream|multipart\/x-mixed-replace)\b/i;

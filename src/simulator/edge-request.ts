/** One request at the edge: from Machine to Machine, until one responds. */
import type { Agent, ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import type { ReplayableBody } from './body.ts';
import { deliver, type Delivery, type DeliveryRetries, type MachineLoad } from './delivery.ts';
import { VIA } from './edge-headers.ts';
import { edgeError, type EdgeErrorCode, type Hop, type EdgeRequestRecord } from './records.ts';
import { cachedLeg, fallbackLeg, headersFor, replayLeg, type Leg } from './legs.ts';
import type { Line } from './line.ts';
import { pipeResponse, pipeUpgrade, type DeliveryAttempt } from './upstream.ts';
import { readReplayRequest, type ReplayRequest } from './replay.ts';
import type { CachedRequest, CacheLookup, ReplayCache } from './replay-cache.ts';
import { sessionTextOfHeaders, sessionTextOfRequest, type Spread } from './spread.ts';
import { targetOfRequest, type EdgeMachine } from './targets.ts';

/** A client's request, and how to respond to it. */
interface Incoming {
  readonly requestId: string;
  readonly request: IncomingMessage;
  /** The headers for the Machine that gets the request first. */
  readonly rawHeaders: readonly string[];
  /** Undefined for an upgrade, which has none. */
  readonly body: ReplayableBody | undefined;
  readonly response: ServerResponse;
  /** The socket for the bytes of an accepted upgrade. After `take`, a disconnect of the client no longer aborts. */
  readonly upgrade: { readonly head: Buffer; readonly take: () => Socket } | undefined;
  /** Aborted when the client has disconnected. */
  readonly signal: AbortSignal;
}

/** The state that all requests of an edge share. */
export interface EdgeContext {
  readonly app: string;
  readonly machines: () => readonly EdgeMachine[];
  readonly spread: () => Spread;
  readonly agentFor: (machine: EdgeMachine) => Agent;
  readonly clock: Clock;
  readonly maxReplays: number;
  readonly retries: DeliveryRetries;
  readonly load: MachineLoad;
  readonly lineTo: (machine: EdgeMachine) => Line;
  readonly connectTimeoutMs: number;
  readonly passesOverRecentlyStopped: boolean;
  readonly replayCache: ReplayCache;
  /** What to do with a request whose cached Machine is unreachable. */
  readonly unreachableCached: UnreachableCached;
  readonly onRecord: (record: EdgeRequestRecord) => void;
}

/**
 * Not documented by Fly. `route-afresh`: drops the entry and routes the request without it. `fail`: the
 * client gets the error, and so do others until the entry expires.
 */
export type UnreachableCached = 'route-afresh' | 'fail';

type Next = Leg | 'responded';

/**
 * first --(response)--> done; --(fly-replay)--> replay --(fly-replay, ten times at most)--> replay;
 * cached --(response or fly-replay)--> as first; --(not delivered)--> first;
 * replay --(not delivered, fallback asked for)--> fallback --(response)--> done.
 * Everything else is an error response of the edge.
 */
export class EdgeRequest {
  readonly #incoming: Incoming;
  readonly #edge: EdgeContext;
  readonly #startedAt: number;
  readonly #session: string | undefined;
  readonly #asCached: CachedRequest;
  readonly #lookup: CacheLookup;
  readonly #hops: Hop[] = [];
  #replays = 0;

  constructor(incoming: Incoming, edge: EdgeContext) {
    this.#incoming = incoming;
    this.#edge = edge;
    this.#startedAt = edge.clock.monotonicMs();
    const { headers, url = '/' } = incoming.request;
    this.#session = sessionTextOfRequest(headers, url);
    this.#asCached = { target: url, headers };
    this.#lookup = edge.replayCache.find(this.#asCached);
  }

  /** Resolves when the response head, or an error, is on its way to the client. */
  async run(): Promise<void> {
    const first = this.#firstLeg();
    // Not documented: a client that names a Machine gets that one, not the cached one.
    const isCached = this.#lookup.kind === 'hit' && first.target.instance === undefined;
    let next: Next = isCached ? cachedLeg(first, this.#lookup) : first;
    while (next !== 'responded') next = await this.#runLeg(next);
  }

  #firstLeg(): Leg {
    const { request, rawHeaders } = this.#incoming;
    return {
      how: 'first',
      target: targetOfRequest(this.#edge.app, request.headers),
      request: { target: request.url ?? '/', rawHeaders },
    };
  }

  async #runLeg(leg: Leg): Promise<Next> {
    const delivery = await this.#deliver(leg);
    if (delivery.kind === 'delivered') {
      this.#hops.push({ machine: delivery.machine.id, how: leg.how });
    }
    if (this.#incoming.signal.aborted) return this.#record(CLIENT_DISCONNECTED);
    if (delivery.kind === 'undelivered') {
      return this.#recover(leg, delivery);
    }
    const { attempt, machine } = delivery;
    switch (attempt.kind) {
      case 'broken':
        return this.#fail('PU02');
      case 'upgraded':
        return this.#acceptUpgrade(attempt, machine);
      case 'responded':
        return this.#onResponse(leg, machine, attempt.request, attempt.response);
    }
  }

  #recover(leg: Leg, delivery: Delivery & { kind: 'undelivered' }): Next {
    if (leg.fallback) return fallbackLeg(leg, leg.fallback, delivery);
    if (leg.how !== 'cached' || this.#edge.unreachableCached === 'fail') {
      return this.#fail(delivery.code);
    }
    this.#edge.replayCache.drop(this.#asCached);
    return this.#firstLeg();
  }

  #deliver(leg: Leg): Promise<Delivery> {
    const { method = 'GET' } = this.#incoming.request;
    const { body, signal } = this.#incoming;
    const spread = this.#edge.spread();
    return deliver({
      ...this.#edge,
      target: leg.target,
      order: (machines) => spread.order(machines, this.#session),
      onTry: (machine) => {
        if (leg.how === 'first') spread.noteFirst(machine.id);
      },
      requestFor: (machine) => ({
        method,
        target: leg.request.target,
        rawHeaders: headersFor(leg, machine),
        body,
      }),
      timeoutMs: leg.timeoutMs,
      signal,
    });
  }

  /** Passes the response on, or follows the replay in it. */
  async #onResponse(
    leg: Leg,
    machine: EdgeMachine,
    request: ClientRequest,
    response: IncomingMessage,
  ): Promise<Next> {
    const wish = await readReplayRequest(response);
    if (wish.kind === 'none') {
      this.#noteServed(machine, response);
      this.#record(response.statusCode ?? 502, machine);
      pipeResponse(request, response, this.#incoming.response, this.#responseOptions(machine));
      return 'responded';
    }
    // The Machine has not read the whole request, and the rest goes to another one.
    if (!request.writableFinished) request.destroy();
    // A request that came back by fallback cannot be replayed again.
    if (wish.kind === 'invalid' || leg.how === 'fallback') return this.#fail('PA03');
    return this.#followReplay(leg, machine, wish);
  }

  async #followReplay(
    leg: Leg,
    issuer: EdgeMachine,
    wish: ReplayRequest & { kind: 'replay' },
  ): Promise<Next> {
    if (this.#replays >= this.#edge.maxReplays) return this.#fail('PA02');
    const completeness = (await this.#incoming.body?.whole()) ?? 'whole';
    if (completeness === 'aborted') return this.#record(CLIENT_DISCONNECTED);
    if (completeness === 'too-large') return this.#fail('PA01');
    this.#updateCache(leg, issuer, wish);
    this.#replays += 1;
    const cacheStatus = this.#lookup.kind === 'bypass' ? 'bypass' : 'miss';
    return replayLeg(leg, issuer, wish, { now: this.#edge.clock.now(), cacheStatus });
  }

  /**
   * Caches only the replay of the Machine that got the request first: "if the target app issues another
   * fly-replay-cache, the caching behavior in this case is undefined".
   */
  #updateCache(leg: Leg, issuer: EdgeMachine, wish: ReplayRequest & { kind: 'replay' }): void {
    const { replayCache } = this.#edge;
    if (wish.cache.kind === 'invalidate') replayCache.drop(this.#asCached);
    else if (leg.how === 'first') replayCache.keep(this.#asCached, wish, issuer);
  }

  #acceptUpgrade(
    attempt: DeliveryAttempt & { kind: 'upgraded' },
    machine: EdgeMachine,
  ): 'responded' {
    const { upgrade } = this.#incoming;
    // Only an upgrade is sent without a body, so nothing else can have been accepted as one.
    if (!upgrade) return this.#fail('PU02');
    this.#noteServed(machine, attempt.response);
    this.#record(attempt.response.statusCode ?? 101, machine);
    const client = { socket: upgrade.take(), head: upgrade.head };
    pipeUpgrade(attempt.response, attempt, client, this.#responseOptions(machine));
    return 'responded';
  }

  #fail(code: EdgeErrorCode): 'responded' {
    const { response, body } = this.#incoming;
    const error = edgeError(code);
    this.#record(error.status, undefined, code);
    const headers = { 'content-type': 'text/plain', 'fly-error': code };
    response.writeHead(error.status, [...Object.entries(headers).flat(), ...this.#addedHeaders()]);
    response.end(error.body);
    body?.discardRest();
    return 'responded';
  }

  #noteServed(machine: EdgeMachine, response: IncomingMessage): void {
    for (const session of [this.#session, sessionTextOfHeaders(response.headers)]) {
      if (session !== undefined) this.#edge.spread().noteServed(session, machine.id);
    }
  }

  #record(status: number, served?: EdgeMachine, error?: EdgeErrorCode): 'responded' {
    const { request, requestId } = this.#incoming;
    this.#edge.onRecord({
      requestId,
      method: request.method ?? 'GET',
      path: (request.url ?? '/').split('?', 1)[0] ?? '/',
      hops: this.#hops,
      first: this.#hops[0]?.machine,
      served: served?.id,
      replays: this.#replays,
      status,
      ms: this.#edge.clock.monotonicMs() - this.#startedAt,
      error,
    });
    return 'responded';
  }

  #responseOptions(machine: EdgeMachine): { addedHeaders: string[]; line: Line } {
    return { addedHeaders: this.#addedHeaders(), line: this.#edge.lineTo(machine) };
  }

  #addedHeaders(): string[] {
    return ['Fly-Request-Id', this.#incoming.requestId, 'Via', VIA];
  }
}

/** nginx's status for a client that closed its connection; no client ever sees it. */
const CLIENT_DISCONNECTED = 499;

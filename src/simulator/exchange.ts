/** One request's way through the edge: from Machine to Machine until there is an answer. */
import type { Agent, ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import type { ReplayableBody } from './body.ts';
import { deliver, type Delivery, type RetryOptions } from './delivery.ts';
import { VIA } from './edge-headers.ts';
import { edgeError, type EdgeErrorCode } from './errors.ts';
import { cachedLeg, fallbackLeg, headersFor, replayLeg, type Leg } from './legs.ts';
import type { Line } from './line.ts';
import type { Load } from './load.ts';
import type { Hop, RequestRecord } from './records.ts';
import { relayAnswer, relayUpgrade } from './relay.ts';
import { readWish, type Wish } from './replay.ts';
import type { CachedRequest, CacheLookup, ReplayCache } from './replay-cache.ts';
import { sessionTextOfHeaders, sessionTextOfRequest } from './session-text.ts';
import type { Spread } from './spread.ts';
import { targetOfRequest, type EdgeMachine } from './targets.ts';
import type { Attempt } from './upstream.ts';

/** A client's request, and the way back to the client. */
export interface Incoming {
  readonly requestId: string;
  readonly request: IncomingMessage;
  /** The headers for the Machine that gets the request first. */
  readonly rawHeaders: readonly string[];
  /** Undefined for an upgrade, which has none. */
  readonly body: ReplayableBody | undefined;
  readonly response: ServerResponse;
  /** Where the bytes of an accepted upgrade go; `take` ends the watch for the client's leaving. */
  readonly upgrade: { readonly head: Buffer; readonly take: () => Socket } | undefined;
  /** Aborted when the client has left. */
  readonly signal: AbortSignal;
}

/** What all requests of an edge share. */
export interface EdgeContext {
  readonly app: string;
  readonly machines: () => readonly EdgeMachine[];
  readonly spread: () => Spread;
  readonly agentFor: (machine: EdgeMachine) => Agent;
  readonly clock: Clock;
  readonly maxReplays: number;
  readonly retries: RetryOptions;
  readonly load: Load;
  readonly lineTo: (machine: EdgeMachine) => Line;
  readonly connectTimeoutMs: number;
  readonly passesOverRecentlyStopped: boolean;
  readonly replayCache: ReplayCache;
  /** What becomes of a request whose cached Machine can't be reached. */
  readonly unreachableCached: UnreachableCached;
  readonly onRecord: (record: RequestRecord) => void;
}

/**
 * Not documented. `route-afresh`: the entry is dropped, and the request starts as if there had been
 * none. `fail`: the client gets the error, and so do others until the entry expires.
 */
export type UnreachableCached = 'route-afresh' | 'fail';

type Next = Leg | 'answered';

/**
 * first --(answer)--> done; --(fly-replay)--> replay --(fly-replay, ten times at most)--> replay;
 * cached --(answer or fly-replay)--> as first; --(not delivered)--> first;
 * replay --(not delivered, fallback asked for)--> fallback --(answer)--> done.
 * Whatever else happens is an error that the edge answers by itself.
 */
export class Exchange {
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

  /** Resolves when the answer's head, or an error, is on its way to the client. */
  async run(): Promise<void> {
    const first = this.#firstLeg();
    // Whether a client that names a Machine gets the cached one is not documented: it gets its own.
    const isCached = this.#lookup.kind === 'hit' && first.target.instance === undefined;
    let next: Next = isCached ? cachedLeg(first, this.#lookup) : first;
    while (next !== 'answered') next = await this.#travel(next);
  }

  #firstLeg(): Leg {
    const { request, rawHeaders } = this.#incoming;
    return {
      how: 'first',
      target: targetOfRequest(this.#edge.app, request.headers),
      request: { target: request.url ?? '/', rawHeaders },
    };
  }

  async #travel(leg: Leg): Promise<Next> {
    const delivery = await this.#deliver(leg);
    if (delivery.kind === 'delivered') {
      this.#hops.push({ machine: delivery.machine.id, how: leg.how });
    }
    if (this.#incoming.signal.aborted) return this.#record(CLIENT_LEFT);
    if (delivery.kind === 'undelivered') {
      return this.#recover(leg, delivery);
    }
    const { attempt, machine } = delivery;
    switch (attempt.kind) {
      case 'broken':
        return this.#fail('PU02');
      case 'upgraded':
        return this.#acceptUpgrade(attempt, machine);
      case 'answered':
        return this.#judge(leg, machine, attempt.request, attempt.response);
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

  /** Passes the answer on, or does what it says. */
  async #judge(
    leg: Leg,
    machine: EdgeMachine,
    request: ClientRequest,
    response: IncomingMessage,
  ): Promise<Next> {
    const wish = await readWish(response);
    if (wish.kind === 'none') {
      this.#noteServed(machine, response);
      this.#record(response.statusCode ?? 502, machine);
      relayAnswer(request, response, this.#incoming.response, this.#wayBack(machine));
      return 'answered';
    }
    // It has not read the request to its end, and what is left of it goes elsewhere.
    if (!request.writableFinished) request.destroy();
    // A request that came back by fallback cannot be replayed again.
    if (wish.kind === 'invalid' || leg.how === 'fallback') return this.#fail('PA03');
    return this.#follow(leg, machine, wish);
  }

  async #follow(leg: Leg, issuer: EdgeMachine, wish: Wish & { kind: 'replay' }): Promise<Next> {
    if (this.#replays >= this.#edge.maxReplays) return this.#fail('PA02');
    const completeness = (await this.#incoming.body?.whole()) ?? 'whole';
    if (completeness === 'aborted') return this.#record(CLIENT_LEFT);
    if (completeness === 'too-large') return this.#fail('PA01');
    this.#note(leg, issuer, wish);
    this.#replays += 1;
    const cacheStatus = this.#lookup.kind === 'bypass' ? 'bypass' : 'miss';
    return replayLeg(leg, issuer, wish, { now: this.#edge.clock.now(), cacheStatus });
  }

  /**
   * Only what the Machine says that got the request first is kept: "if the target app issues another
   * fly-replay-cache, the caching behavior in this case is undefined".
   */
  #note(leg: Leg, issuer: EdgeMachine, wish: Wish & { kind: 'replay' }): void {
    const { replayCache } = this.#edge;
    if (wish.cache.kind === 'invalidate') replayCache.drop(this.#asCached);
    else if (leg.how === 'first') replayCache.keep(this.#asCached, wish, issuer);
  }

  #acceptUpgrade(attempt: Attempt & { kind: 'upgraded' }, machine: EdgeMachine): 'answered' {
    const { upgrade } = this.#incoming;
    // Only an upgrade is sent without a body, so nothing else can have been accepted as one.
    if (!upgrade) return this.#fail('PU02');
    this.#noteServed(machine, attempt.response);
    this.#record(attempt.response.statusCode ?? 101, machine);
    const client = { socket: upgrade.take(), head: upgrade.head };
    relayUpgrade(attempt.response, attempt, client, this.#wayBack(machine));
    return 'answered';
  }

  #fail(code: EdgeErrorCode): 'answered' {
    const { response, body } = this.#incoming;
    const error = edgeError(code);
    this.#record(error.status, undefined, code);
    const headers = { 'content-type': 'text/plain', 'fly-error': code };
    response.writeHead(error.status, [...Object.entries(headers).flat(), ...this.#addedHeaders()]);
    response.end(error.body);
    body?.discardRest();
    return 'answered';
  }

  #noteServed(machine: EdgeMachine, response: IncomingMessage): void {
    for (const session of [this.#session, sessionTextOfHeaders(response.headers)]) {
      if (session !== undefined) this.#edge.spread().noteServed(session, machine.id);
    }
  }

  #record(status: number, served?: EdgeMachine, error?: EdgeErrorCode): 'answered' {
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
    return 'answered';
  }

  #wayBack(machine: EdgeMachine): { addedHeaders: string[]; line: Line } {
    return { addedHeaders: this.#addedHeaders(), line: this.#edge.lineTo(machine) };
  }

  #addedHeaders(): string[] {
    return ['Fly-Request-Id', this.#incoming.requestId, 'Via', VIA];
  }
}

/** nginx's status for a client that closed its connection; no client ever sees it. */
const CLIENT_LEFT = 499;

/** The link to one peer: queries, announcements, heartbeats, and its circuit breaker. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createCircuitBreaker, type CircuitBreaker } from '../resilience.ts';
import { AnnouncementQueue, type Announcement, Batcher } from './announcements.ts';
import type { Peer } from './directory.ts';
import type { Liveness } from './liveness.ts';
import {
  ANNOUNCE_PATH,
  ASK_PATH,
  formatAsk,
  formatStatus,
  MAX_KEYS,
  parseResponse,
  parseStatusResponse,
  STATUS_PATH,
  type Claim,
  type KeyResponse,
  type PeerStatus,
} from './messages.ts';
import {
  createPeerClient,
  PeerStatusError,
  PeerTimeoutError,
  type LoadUndici,
  type PeerClient,
} from './peer-client.ts';
import { RecentMap } from './recent-map.ts';

/** What a link reports about its peer. */
export type LinkLiveness = Pick<
  Liveness,
  | 'onResponse'
  | 'onStatus'
  | 'onNoResponse'
  | 'onMissedHeartbeat'
  | 'onNotListed'
  | 'onConnected'
  | 'onConnectFailed'
>;

interface PeerLinkOptions {
  readonly self: MachineId;
  readonly peer: Peer;
  /** The peer's current address. */
  readonly addressOf: () => string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly liveness: LinkLiveness;
  /** The peer has responded to an announcement with a claim that outranks ours. */
  readonly onOutranked: (key: SessionKey, claim: Claim) => void;
  /** The peer has responded to an announcement with a claim that ours outranks. */
  readonly onContested: (key: SessionKey, announcement: Announcement) => void;
  /** An announcement will not reach the peer. */
  readonly onAnnouncementDropped: () => void;
  readonly loadUndici?: LoadUndici | undefined;
}

/** After this time, in ms, the next queries no longer wait for the response to the last ones. */
export const QUERY_TIMEOUT_MS = 300;
/**
 * A response that takes longer, in ms, never comes. A peer that is short of processor time responds
 * late: if that counted as unresponsive, its fleet would send more queries and it would respond even later.
 */
export const RESPONSE_TIMEOUT_MS = 2_000;
/** The number of batches of queries that may be late while the next one is in flight. */
const MAX_LATE = 1;
const PING_TIMEOUT_MS = 1_000;
export const HEARTBEAT_TIMEOUT_MS = 1_000;
/** For a peer without status messages: it takes sessions, and places none. */
const STATUS_OF_OLD_VERSION: PeerStatus = { version: 1, takesSessions: true, region: undefined };
const RECENT_NOS = { ttlMs: 2_000, maxEntries: 4_096 };
const BREAKER = { failureThreshold: 3, openMs: 1_000, maxOpenMs: 5_000 };

type KeyResponses = ReadonlyMap<SessionKey, KeyResponse>;

interface KeyQuery {
  readonly claim: Claim | undefined;
  readonly onResponse: (response: KeyResponse) => void;
}

/**
 * At most one batch of queries (two if one is late) and one of announcements are in flight. A response
 * counts only if it names the Machine that was called: Fly.io reuses addresses for other Machines.
 */
export class PeerLink {
  readonly machine: MachineId;
  readonly #options: PeerLinkOptions;
  readonly #client: PeerClient;
  readonly #breaker: CircuitBreaker;
  readonly #recentNos: RecentMap<SessionKey, true>;
  readonly #queries: Batcher<SessionKey, KeyQuery>;
  /** Batches of queries in flight, each with the keys to which a "no" is out of date. */
  readonly #queriesInFlight = new Map<Promise<void>, Set<SessionKey>>();
  readonly #announcements: AnnouncementQueue;
  #isClosed = false;

  constructor(options: PeerLinkOptions) {
    const { self, peer, clock, random, liveness, onOutranked, onContested } = options;
    this.machine = peer.machine;
    this.#options = options;
    this.#client = createPeerClient({
      ...options,
      onDialled: (outcome) => {
        if (outcome === 'connected') liveness.onConnected(this.machine);
        else liveness.onConnectFailed(this.machine, outcome === 'refused');
      },
    });
    this.#breaker = createCircuitBreaker({ ...BREAKER, clock, random });
    this.#recentNos = new RecentMap({ ...RECENT_NOS, clock });
    this.#queries = new Batcher({ maxBatch: MAX_KEYS, send: (batch) => this.#sendQueries(batch) });
    this.#announcements = new AnnouncementQueue({
      ...{ self, peer: peer.machine, clock, onOutranked, onContested },
      onDropped: options.onAnnouncementDropped,
      mayCall: () => this.#breaker.mayBegin(),
      send: (body) => this.#call(ANNOUNCE_PATH, body),
    });
  }

  /** Whether the peer reported within the last two seconds that it does not own the key. */
  hasDeniedKey(key: SessionKey): boolean {
    return this.#recentNos.has(key);
  }

  /** The peer may own the key now: an earlier "no", or one in flight, is out of date. */
  forgetDenial(key: SessionKey): void {
    this.#recentNos.delete(key);
    for (const outdated of this.#queriesInFlight.values()) outdated.add(key);
  }

  /** Queries with the next batch. Calls `onResponse` once; at once while the circuit breaker is open. */
  ask(key: SessionKey, claim: Claim | undefined, onResponse: KeyQuery['onResponse']): void {
    if (this.#isClosed || !this.#breaker.mayBegin()) onResponse('unknown');
    else this.#queries.add(key, { claim, onResponse });
  }

  /** Whether it withdrew a query that was not sent yet. Such a query gets no response. */
  withdraw(key: SessionKey): boolean {
    return this.#queries.remove(key);
  }

  announce(key: SessionKey, announcement: Announcement): void {
    this.#announcements.add(key, announcement);
  }

  /** Announces it after the peer's next response. */
  announceLater(key: SessionKey, announcement: Announcement): void {
    this.#announcements.defer(key, announcement);
  }

  retract(key: SessionKey): void {
    this.#announcements.retract(key);
  }

  /** See {@link AnnouncementQueue.sendNow}. */
  announceNow(claims: ReadonlyMap<SessionKey, Claim>): Promise<boolean> {
    return this.#announcements.sendNow(claims);
  }

  /** Drops connections that may be dead: this Machine was suspended. */
  reconnect(): void {
    this.#client.reconnect();
  }

  /** Whether the peer responds to a message without a query. Sent even where other calls have failed. */
  async ping(): Promise<boolean> {
    if (this.#isClosed) return false;
    try {
      const body = formatAsk({ from: this.#options.self, questions: [] });
      const options = { timeoutMs: PING_TIMEOUT_MS };
      const message = parseResponse(await this.#client.post(ASK_PATH, body, options));
      return message?.machine === this.machine;
    } catch (error) {
      // The cause does not matter: the caller counts the failures.
      this.#reportTimeout(error);
      return false;
    }
  }

  /**
   * Sends our status and reports the peer's to `liveness`. Sent even where other calls have failed.
   * Resolves to whether the peer has responded; never rejects.
   */
  async sendHeartbeat(status: PeerStatus): Promise<boolean> {
    if (this.#isClosed || !(await this.#openClient())) return false;
    try {
      const body = formatStatus({ from: this.#options.self, status });
      const options = { timeoutMs: HEARTBEAT_TIMEOUT_MS };
      const message = parseStatusResponse(await this.#client.post(STATUS_PATH, body, options));
      this.#assertSender(message);
      this.#onStatus(message.status);
      return true;
    } catch (error) {
      return this.#onHeartbeatFailed(error);
    }
  }

  /** Queries in flight end with `unknown`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const announced = this.#announcements.close();
    await this.#client.close();
    await Promise.all([this.#queries.idle(), announced]);
    await Promise.all(this.#queriesInFlight.keys());
  }

  /** Resolves when the next batch may go. A response may be late, and still counts when it comes. */
  async #sendQueries(batch: ReadonlyMap<SessionKey, KeyQuery>): Promise<void> {
    const outdated = new Set<SessionKey>();
    const ended = this.#query(batch, outdated).finally(() => this.#queriesInFlight.delete(ended));
    this.#queriesInFlight.set(ended, outdated);
    if (this.#queriesInFlight.size > MAX_LATE) return ended;
    const isLate = Promise.withResolvers<undefined>();
    const cancel = this.#options.clock.after(QUERY_TIMEOUT_MS, () => isLate.resolve(undefined));
    await Promise.race([ended, isLate.promise]);
    cancel();
  }

  async #query(
    batch: ReadonlyMap<SessionKey, KeyQuery>,
    outdated: ReadonlySet<SessionKey>,
  ): Promise<void> {
    const { self, clock } = this.#options;
    const questions = [...batch].map(([key, { claim }]) => (claim ? { key, claim } : { key }));
    const sentAtMs = clock.monotonicMs();
    const responses = await this.#call(ASK_PATH, formatAsk({ from: self, questions }));
    if (responses) this.#announcements.sendDeferred();
    const isLate = clock.monotonicMs() - sentAtMs >= QUERY_TIMEOUT_MS;
    for (const [key, { onResponse }] of batch) {
      const received = responses?.get(key) ?? 'unknown';
      const response = received === 'no' && outdated.has(key) ? 'unknown' : received;
      if (response === 'no' && !isLate) this.#recentNos.set(key, true);
      if (typeof response === 'object') this.forgetDenial(key);
      onResponse(response);
    }
  }

  /** Undefined without a valid response. Never rejects. */
  async #call(path: string, body: string): Promise<KeyResponses | undefined> {
    const attempt = this.#isClosed ? undefined : this.#breaker.begin();
    if (!attempt) return undefined;
    // Before the timeout starts: the time to load undici proves nothing about the peer.
    if (!(await this.#openClient())) {
      attempt.failed();
      return undefined;
    }
    try {
      const options = { timeoutMs: RESPONSE_TIMEOUT_MS };
      const message = parseResponse(await this.#client.post(path, body, options));
      this.#assertSender(message);
      attempt.succeeded();
      this.#options.liveness.onResponse(this.machine);
      return message.answers;
    } catch (error) {
      // The breaker counts every cause, and the callers get no response.
      attempt.failed();
      this.#reportTimeout(error);
      return undefined;
    }
  }

  /** Only a timeout counts: an error status or a response of another Machine does not mean that the peer is down. */
  #reportTimeout(error: unknown): void {
    if (error instanceof PeerTimeoutError) this.#options.liveness.onNoResponse(this.machine);
  }

  /** Whether the peer can be called. If not, for a reason of our own, it counts as unresponsive. */
  async #openClient(): Promise<boolean> {
    try {
      await this.#client.open();
      return true;
    } catch {
      // `loadUndici` reports the error itself.
      if (!this.#isClosed) this.#options.liveness.onNoResponse(this.machine);
      return false;
    }
  }

  #onStatus(status: PeerStatus): void {
    this.#options.liveness.onStatus(this.machine, status);
    this.#announcements.sendDeferred();
  }

  /** Whether the peer has still responded. */
  #onHeartbeatFailed(error: unknown): boolean {
    if (this.#isClosed) return false;
    const { liveness } = this.#options;
    const status = error instanceof PeerStatusError ? error.status : undefined;
    if (status === 404) this.#onStatus(STATUS_OF_OLD_VERSION);
    else if (status === 403) liveness.onNotListed(this.machine);
    else liveness.onMissedHeartbeat(this.machine);
    return status === 404;
  }

  #assertSender<Message extends { readonly machine: MachineId }>(
    message: Message | undefined,
  ): asserts message is Message {
    if (message?.machine !== this.machine) throw new Error('another Machine has responded');
  }
}

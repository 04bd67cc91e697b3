/** All other Machines behind one interface: queries them for the owner of a session, and announces our own. */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { Announcement } from './announcements.ts';
import { claimOf, type Claimant } from './claim-resolver.ts';
import type { Directory, Peer } from './directory.ts';
import type { Liveness, LivenessState } from './liveness.ts';
import { MAX_KEYS, type Claim, type PeerStatus } from './messages.ts';
import {
  OwnerQuery,
  type AskOptions,
  type OnPeerResponse,
  type OwnerQueryOptions,
  type PeerLookup,
} from './owner-query.ts';
import type { LoadUndici } from './peer-client.ts';
import { PeerLink, QUERY_TIMEOUT_MS, RESPONSE_TIMEOUT_MS, type LinkLiveness } from './peer-link.ts';
import { createFairShare, type TakeFairToken } from './rate-limits.ts';
import { RecentMap } from './recent-map.ts';

export type { AskOptions, OnPeerResponse, PeerLookup } from './owner-query.ts';

export interface Peers {
  /**
   * Which peer owns the key; within 300 ms, or two seconds with `waitsForSlowPeers`. Never rejects.
   * `none` only if every Machine of a readable directory has denied the key within the last two seconds.
   * Beyond the rate limits, `inconclusive` at once; a flood reaches the limit of its `source` first.
   */
  ask(key: SessionKey, options?: AskOptions): Promise<PeerLookup>;
  /** The Machine has announced the key: its earlier responses are out of date. */
  onAnnounced(key: SessionKey, machine: MachineId): void;
  /** Resolves to whether the peer has responded; never rejects. */
  sendHeartbeat(machine: MachineId, status: PeerStatus): Promise<boolean>;
  /** Announces a binding of our own to every peer (ignores others), best effort. Returns at once. */
  announce(binding: Binding, ttlMs: number): void;
  /**
   * Announces bindings of our own, of any number, and waits for the responses. Resolves to whether every peer that
   * responds to this Machine has stored all of them; stops at the first failure. Never rejects.
   */
  announceAll(bindings: readonly Binding[]): Promise<boolean>;
  /** Drops the connections to all peers: they may be dead, as this Machine was suspended. */
  reconnect(): void;
  /** The session is no longer ours: drops announcements of it that were not sent yet. */
  retract(key: SessionKey): void;
  /** Whether the sidecar of that Machine responds; within a second, never rejects. */
  ping(machine: MachineId): Promise<boolean>;
  /** Queries in flight end inconclusive; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

export interface PeersOptions {
  readonly self: MachineId;
  readonly directory: Pick<Directory, 'others' | 'peer' | 'status'>;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly liveness: LinkLiveness & Pick<Liveness, 'of'>;
  /** A peer claims the key: to be stored as a copy, unless another claim outranks it. */
  readonly onClaim: (key: SessionKey, claimant: Claimant) => void;
  /** A peer's claim outranks ours: the claim resolver releases the key. */
  readonly onOutranked: (key: SessionKey, winner: Claimant) => void;
  /** Called once per query, and once per query beyond the bounds (`shed`). */
  readonly onQuery?: (outcome: PeerLookup['kind'] | 'shed') => void;
  /** The queue to a peer is full: an announcement was dropped. */
  readonly onAnnouncementDropped?: () => void;
  /** Called by the first call to a peer. While it rejects, the peers count as unresponsive. */
  readonly loadUndici?: LoadUndici;
}

/** Keys with a query in flight. */
export const MAX_QUERIES = 1_024;
/** The most that a flood of generated ids can cost: this many queries per second, each to every peer. */
export const QUERIES_PER_SECOND = 500;
export const QUERY_BURST = 1_000;
/** The share of one source when other sources have used up the rest. */
const SOURCE_SHARE = { ratePerSecond: 50, burst: 100 };
/** Reserved for sources within their share. */
export const QUERY_RESERVE = QUERY_BURST / 2;

/**
 * A Machine that joins the list has missed earlier announcements, and may have claimed the same keys: two
 * Machines that start together do not list each other at first. Directories differ for far less time.
 */
const RECENT_ANNOUNCEMENTS = { ttlMs: 60_000, maxEntries: 16_384 };

/** Machines that are not queried: what a sleeping one owns, it has announced. */
const SILENT: readonly LivenessState[] = ['gone', 'asleep'];
const RESPONDING: readonly LivenessState[] = ['running', 'unreachable-from-edge'];

const NONE: PeerLookup = { kind: 'none' };
const INCONCLUSIVE: PeerLookup = { kind: 'inconclusive' };
const SHED: PeerLookup = { kind: 'inconclusive', isShed: true };

export function createPeers(options: PeersOptions): Peers {
  return new FleetPeers(options);
}

/** Has a link to each Machine that the directory lists, and closes it when the Machine leaves the list. */
class FleetPeers implements Peers {
  readonly #options: PeersOptions;
  readonly #takeToken: TakeFairToken;
  readonly #queries = new Map<SessionKey, OwnerQuery>();
  readonly #links = new Map<MachineId, PeerLink>();
  readonly #closing = new Set<Promise<void>>();
  readonly #announced: RecentMap<SessionKey, Announcement>;
  /** The list that the links were made for: the directory returns the same array until its next reading. */
  #linkedTo: readonly Peer[] = [];
  #isStopped = false;

  constructor(options: PeersOptions) {
    const { clock } = options;
    this.#options = options;
    this.#announced = new RecentMap({ ...RECENT_ANNOUNCEMENTS, clock });
    this.#takeToken = createFairShare({
      ...{ ratePerSecond: QUERIES_PER_SECOND, burst: QUERY_BURST },
      ...{ share: SOURCE_SHARE, reserve: QUERY_RESERVE, clock },
    });
  }

  ask(key: SessionKey, options: AskOptions = {}): Promise<PeerLookup> {
    if (this.#isStopped) return Promise.resolve(INCONCLUSIVE);
    const { onResponse, source, hasKnownOwner } = options;
    const status = this.#options.directory.status().kind;
    if (status === 'off') return Promise.resolve(NONE);
    const inFlight = this.#queries.get(key);
    if (inFlight) return inFlight.result(onResponse);

    const areAllPeers = status === 'ok' || status === 'static';
    const claim = this.#claimOf(options.ownBinding);
    // A "no" from before the peer knew of our claim does not count.
    const skipsCache = claim !== undefined || options.skipsCache === true;
    const links = this.#linksToQuery(key, skipsCache, onResponse);
    if (links.length === 0) return Promise.resolve(areAllPeers ? NONE : INCONCLUSIVE);
    const mayQuery = this.#queries.size < MAX_QUERIES && this.#takeToken(source, !hasKnownOwner);
    if (!mayQuery) return this.#shed();
    const timeoutMs = options.waitsForSlowPeers ? this.#patientTimeoutMs(links) : QUERY_TIMEOUT_MS;
    // With a claim of our own, `onOutranked` is called instead.
    const onClaim = options.isDryRun || claim ? undefined : this.#options.onClaim;
    const query = { key, claim, links, areAllPeers, onClaim: onClaim?.bind(undefined, key) };
    return this.#begin(query, timeoutMs).result(onResponse);
  }

  announce(binding: Binding, ttlMs: number): void {
    if (this.#isStopped || binding.machine !== this.#options.self) return;
    const { key } = binding;
    const claim = claimOf(binding, ttlMs);
    const announcement = { claim, endsAtMs: this.#options.clock.monotonicMs() + claim.ttlMs };
    for (const link of this.#currentLinks()) link.announce(key, announcement);
    this.#announced.set(key, announcement);
  }

  async announceAll(bindings: readonly Binding[]): Promise<boolean> {
    const { clock, liveness } = this.#options;
    const links = this.#currentLinks().filter(({ machine }) =>
      RESPONDING.includes(liveness.of(machine)),
    );
    for (let from = 0; from < bindings.length; from += MAX_KEYS) {
      if (this.#isStopped) return false;
      const batch = bindings.slice(from, from + MAX_KEYS);
      const claims = new Map(
        batch.map((binding) => [binding.key, claimOf(binding, binding.expiresAt - clock.now())]),
      );
      const stored = await Promise.all(links.map((link) => link.announceNow(claims)));
      if (stored.includes(false)) return false;
    }
    return true;
  }

  reconnect(): void {
    for (const link of this.#links.values()) link.reconnect();
  }

  retract(key: SessionKey): void {
    this.#announced.delete(key);
    for (const link of this.#links.values()) link.retract(key);
  }

  onAnnounced(key: SessionKey, machine: MachineId): void {
    this.#linkTo(machine)?.forgetDenial(key);
  }

  async sendHeartbeat(machine: MachineId, status: PeerStatus): Promise<boolean> {
    return (await this.#linkTo(machine)?.sendHeartbeat(status)) ?? false;
  }

  async ping(machine: MachineId): Promise<boolean> {
    return (await this.#linkTo(machine)?.ping()) ?? false;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const query of [...this.#queries.values()]) query.end();
    for (const machine of [...this.#links.keys()]) this.#unlink(machine);
    await Promise.all(this.#closing);
  }

  #shed(): Promise<PeerLookup> {
    this.#options.onQuery?.('shed');
    return Promise.resolve(SHED);
  }

  #patientTimeoutMs(links: readonly PeerLink[]): number {
    const { liveness } = this.#options;
    const mayRespond = links.every(({ machine }) => liveness.of(machine) !== 'unresponsive');
    const areFewInFlight = this.#queries.size < MAX_QUERIES / 2;
    return mayRespond && areFewInFlight ? RESPONSE_TIMEOUT_MS : QUERY_TIMEOUT_MS;
  }

  #begin(
    options: Pick<OwnerQueryOptions, 'key' | 'claim' | 'links' | 'areAllPeers' | 'onClaim'>,
    timeoutMs: number,
  ): OwnerQuery {
    const { self, clock, onQuery, onOutranked } = this.#options;
    const { key, claim } = options;
    const query = new OwnerQuery({
      ...options,
      self,
      startTimeout: (onTimeout) => clock.after(timeoutMs, onTimeout),
      onResult: (result, owner) => {
        onQuery?.(result.kind);
        if (claim && owner) onOutranked(key, owner);
      },
      onClosed: () => void this.#queries.delete(key),
    });
    // The query is closed already if the circuit breaker of every peer is open.
    if (!query.isClosed()) this.#queries.set(key, query);
    return query;
  }

  #claimOf(binding: Binding | undefined): Claim | undefined {
    const { self, clock } = this.#options;
    if (binding?.machine !== self) return undefined;
    return claimOf(binding, binding.expiresAt - clock.now());
  }

  #linkTo(machine: MachineId): PeerLink | undefined {
    if (this.#isStopped) return undefined;
    this.#currentLinks();
    return this.#links.get(machine);
  }

  #linksToQuery(key: SessionKey, skipsCache: boolean, onResponse?: OnPeerResponse): PeerLink[] {
    const { liveness } = this.#options;
    return this.#currentLinks().filter((link) => {
      // No response of it would count, or it gives none.
      if (SILENT.includes(liveness.of(link.machine))) return false;
      const isToBeQueried = skipsCache || !link.hasDeniedKey(key);
      if (!isToBeQueried) onResponse?.(link.machine, 'no');
      return isToBeQueried;
    });
  }

  #currentLinks(): PeerLink[] {
    const others = this.#options.directory.others();
    if (others !== this.#linkedTo) this.#relink(others);
    return [...this.#links.values()];
  }

  #relink(others: readonly Peer[]): void {
    this.#linkedTo = others;
    const listed = new Set(others.map(({ machine }) => machine));
    for (const machine of [...this.#links.keys()]) {
      if (!listed.has(machine)) this.#unlink(machine);
    }
    for (const peer of others) {
      if (!this.#links.has(peer.machine)) this.#links.set(peer.machine, this.#createLink(peer));
    }
  }

  /** To those that may have heard of the claim of `loser` after they heard of ours. */
  #announceAgain(key: SessionKey, announcement: Announcement, loser: MachineId): void {
    for (const link of this.#currentLinks())
      if (link.machine !== loser) link.announce(key, { ...announcement, isRepeated: true });
  }

  #createLink(peer: Peer): PeerLink {
    const { directory, onOutranked, onAnnouncementDropped } = this.#options;
    const { machine } = peer;
    const link = new PeerLink({
      ...this.#options,
      peer,
      addressOf: () => directory.peer(machine)?.address,
      onOutranked: (key, claim) => onOutranked(key, { ...claim, machine }),
      onContested: (key, announcement) => this.#announceAgain(key, announcement, machine),
      onAnnouncementDropped: () => onAnnouncementDropped?.(),
    });
    for (const [key, announcement] of this.#announced.entries())
      link.announceLater(key, announcement);
    return link;
  }

  #unlink(machine: MachineId): void {
    const closing = this.#links.get(machine)?.close();
    this.#links.delete(machine);
    if (!closing) return;
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }
}

/** Asking the other Machines who owns a session, and telling them what we own. */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { claimOf, type Claimant } from './claims.ts';
import type { Directory, Peer } from './directory.ts';
import { createFairShare, type Source, type TakeFairToken } from './rate-limits.ts';
import type { Liveness } from './liveness.ts';
import type { Claim, PeerStatus } from './messages.ts';
import type { LoadUndici } from './peer-client.ts';
import { RESPONSE_TIMEOUT_MS, PeerLink, QUERY_TIMEOUT_MS, type LinkLiveness } from './peer-link.ts';
import {
  OwnerQuery,
  type OnPeerResponse,
  type PeerLookup,
  type OwnerQueryOptions,
} from './owner-query.ts';
import { createRecentAnnouncements, type RecentAnnouncements } from './recent-announcements.ts';

export type { OnPeerResponse, PeerLookup } from './owner-query.ts';

export interface Peers {
  /**
   * Who of the peers owns the key; within 300 ms, or two seconds (`isPatient`), never rejects. `none`
   * only if every Machine of a directory in good order said no within the last two seconds;
   * `inconclusive` at once for what is beyond the bounds, which floods meet first (`source`).
   */
  ask(key: SessionKey, how?: AskOptions): Promise<PeerLookup>;
  /** That Machine has announced the key: what it had said before is out of date. */
  onAnnounced(key: SessionKey, machine: MachineId): void;
  /** Sends one heartbeat. Resolves to whether it was answered; never rejects. */
  sendHeartbeat(machine: MachineId, status: PeerStatus): Promise<boolean>;
  /** Tells every peer, best effort, of a binding of our own (others are ignored). Returns at once. */
  announce(binding: Binding, ttlMs: number): void;
  /** The session is no longer ours: announcements of it that were not sent yet are dropped. */
  retract(key: SessionKey): void;
  /** Whether the sidecar of that Machine answers; within a second, never rejects. */
  ping(machine: MachineId): Promise<boolean>;
  /** Questions under way end inconclusive; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

export interface AskOptions {
  /** The binding that we hold ourselves: an owner is then one that outranks us, and `onOutranked` was called. */
  readonly ownBinding?: Binding | undefined;
  /** Told what each peer has said until the answer is there, and what it had said before. */
  readonly onResponse?: OnPeerResponse | undefined;
  /** Whose request it is for. */
  readonly source?: Source | undefined;
  /**
   * Its owner is known, and can't be had just now: all its clients try again every second, each of
   * them within its share, and are to leave something for new sessions.
   */
  readonly hasKnownOwner?: boolean | undefined;
  /**
   * Whether a peer that is late is waited for, as long as none is known to be silent and few questions
   * are open.
   */
  readonly waitsForSlowPeers?: boolean | undefined;
  /** Whether what a peer has said before is asked again. */
  readonly skipsCache?: boolean | undefined;
  /** Whether nothing is to be kept of what the peers say: somebody only looks. */
  readonly isDryRun?: boolean | undefined;
}

export interface PeersOptions {
  readonly self: MachineId;
  readonly directory: Pick<Directory, 'others' | 'peer' | 'status'>;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Told who answers and who does not. */
  readonly liveness: LinkLiveness & Pick<Liveness, 'of'>;
  /** What a peer says it owns: to be kept as a copy, if nobody outranks it. */
  readonly onClaim: (key: SessionKey, claimant: Claimant) => void;
  /** Another Machine's claim outranks the one that was sent: the keeper has to hear of it. */
  readonly onOutranked: (key: SessionKey, winner: Claimant) => void;
  /** Called once per question, and for each one that is beyond the bounds (`shed`). */
  readonly onQuery?: (outcome: 'owner' | 'none' | 'inconclusive' | 'shed') => void;
  /** Announcements for which there was no room in the queue to a peer. */
  readonly onAnnouncementsLost?: (count: number) => void;
  /** Called when the first peer is asked or told; while it rejects, the peers count as silent. */
  readonly loadUndici?: LoadUndici;
}

/** Keys being asked about at once. */
export const MAX_QUERIES = 1_024;
/** What a flood of made-up ids may cost: so many questions a second, each put to every peer. */
export const QUERIES_PER_SECOND = 500;
export const QUERY_BURST = 1_000;
/** What one source may have of it though others have used up the rest. */
export const SOURCE_SHARE = { ratePerSecond: 50, burst: 100 };
/** Kept for sources within their share. */
export const QUERY_RESERVE = QUERY_BURST / 2;

const NONE: PeerLookup = { kind: 'none' };
const INCONCLUSIVE: PeerLookup = { kind: 'inconclusive' };
const SHED: PeerLookup = { kind: 'inconclusive', isShed: true };

export function createPeers(options: PeersOptions): Peers {
  return new FleetPeers(options);
}

/** Has a link to each Machine that the directory lists; a Machine that leaves takes its link along. */
class FleetPeers implements Peers {
  readonly #options: PeersOptions;
  readonly #takeToken: TakeFairToken;
  readonly #questions = new Map<SessionKey, OwnerQuery>();
  readonly #links = new Map<MachineId, PeerLink>();
  readonly #closing = new Set<Promise<void>>();
  readonly #announced: RecentAnnouncements;
  /** What the links were last made for: the directory hands out one array per reading. */
  #linkedTo: readonly Peer[] = [];
  #isStopped = false;

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#announced = createRecentAnnouncements(options.clock);
    this.#takeToken = createFairShare({
      ratePerSecond: QUERIES_PER_SECOND,
      burst: QUERY_BURST,
      share: SOURCE_SHARE,
      reserve: QUERY_RESERVE,
      clock: options.clock,
    });
  }

  ask(key: SessionKey, how: AskOptions = {}): Promise<PeerLookup> {
    if (this.#isStopped) return Promise.resolve(INCONCLUSIVE);
    const { ownBinding: ours, onResponse: onEach, source, hasKnownOwner: isKnown } = how;
    const status = this.#options.directory.status().kind;
    if (status === 'off') return Promise.resolve(NONE);
    const asked = this.#questions.get(key);
    if (asked) return asked.answer(onEach);

    const areAllPeers = status === 'ok' || status === 'static';
    const claim = this.#claimOf(ours);
    const links = this.#linksToAsk(key, claim !== undefined || how.skipsCache === true, onEach);
    if (links.length === 0) return Promise.resolve(areAllPeers ? NONE : INCONCLUSIVE);
    const mayAsk = this.#questions.size < MAX_QUERIES && this.#takeToken(source, !isKnown);
    if (!mayAsk) return this.#shed();
    const patienceMs = how.waitsForSlowPeers ? this.#patienceFor(links) : QUERY_TIMEOUT_MS;
    // A claim that outranks one of our own is told by itself.
    const onClaim = how.isDryRun || claim ? undefined : this.#options.onClaim;
    const what = { key, claim, links, areAllPeers, onClaim: onClaim?.bind(undefined, key) };
    return this.#open(what, patienceMs).answer(onEach);
  }

  announce(binding: Binding, ttlMs: number): void {
    if (this.#isStopped || binding.machine !== this.#options.self) return;
    const { key } = binding;
    const claim = claimOf(binding, ttlMs);
    const announcement = { claim, endsAtMs: this.#options.clock.monotonicMs() + claim.ttlMs };
    for (const link of this.#currentLinks()) link.announce(key, announcement);
    this.#announced.add(key, announcement);
  }

  retract(key: SessionKey): void {
    this.#announced.delete(key);
    for (const link of this.#links.values()) link.retract(key);
  }

  onAnnounced(key: SessionKey, machine: MachineId): void {
    this.#linkOf(machine)?.forgetNo(key);
  }

  async sendHeartbeat(machine: MachineId, status: PeerStatus): Promise<boolean> {
    return (await this.#linkOf(machine)?.exchangeStatus(status)) ?? false;
  }

  async ping(machine: MachineId): Promise<boolean> {
    return (await this.#linkOf(machine)?.ping()) ?? false;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const question of [...this.#questions.values()]) question.giveUp();
    for (const machine of [...this.#links.keys()]) this.#unlink(machine);
    await Promise.all(this.#closing);
  }

  #shed(): Promise<PeerLookup> {
    this.#options.onQuery?.('shed');
    return Promise.resolve(SHED);
  }

  #patienceFor(links: readonly PeerLink[]): number {
    const { liveness } = this.#options;
    const mayAnswer = links.every(({ machine }) => liveness.of(machine) !== 'unresponsive');
    const isCalm = this.#questions.size < MAX_QUERIES / 2;
    return mayAnswer && isCalm ? RESPONSE_TIMEOUT_MS : QUERY_TIMEOUT_MS;
  }

  #open(
    asked: Pick<OwnerQueryOptions, 'key' | 'claim' | 'links' | 'areAllPeers' | 'onClaim'>,
    patienceMs: number,
  ): OwnerQuery {
    const { self, clock, onQuery: onQuestion, onOutranked } = this.#options;
    const { key, claim } = asked;
    const question = new OwnerQuery({
      ...asked,
      self,
      startDeadline: (onOver) => clock.after(patienceMs, onOver),
      onAnswered: (answer, owner) => {
        onQuestion?.(answer.kind);
        if (claim && owner) onOutranked(key, owner);
      },
      onClosed: () => void this.#questions.delete(key),
    });
    // It is over already where every peer is left alone by its breaker.
    if (!question.isClosed()) this.#questions.set(key, question);
    return question;
  }

  #claimOf(binding: Binding | undefined): Claim | undefined {
    const { self, clock } = this.#options;
    if (binding?.machine !== self) return undefined;
    return claimOf(binding, binding.expiresAt - clock.now());
  }

  #linkOf(machine: MachineId): PeerLink | undefined {
    if (this.#isStopped) return undefined;
    this.#currentLinks();
    return this.#links.get(machine);
  }

  /** With a claim of our own everyone is asked (`isFresh`): what a peer said before it knew of it does not count. */
  #linksToAsk(key: SessionKey, isFresh: boolean, onEach?: OnPeerResponse): PeerLink[] {
    const { liveness } = this.#options;
    return this.#currentLinks().filter((link) => {
      // It has nothing left to say.
      if (liveness.of(link.machine) === 'gone') return false;
      const isToBeAsked = isFresh || !link.saidNo(key);
      if (!isToBeAsked) onEach?.(link.machine, 'no');
      return isToBeAsked;
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
      if (!this.#links.has(peer.machine)) this.#links.set(peer.machine, this.#newLinkTo(peer));
    }
  }

  /** It was not told what was announced before it was listed. */
  #newLinkTo(peer: Peer): PeerLink {
    const link = this.#linkTo(peer);
    for (const [key, announcement] of this.#announced.entries())
      link.announceLater(key, announcement);
    return link;
  }

  #linkTo(peer: Peer): PeerLink {
    const { self, directory, clock, random, liveness } = this.#options;
    const { onOutranked, onAnnouncementsLost, loadUndici } = this.#options;
    const { machine } = peer;
    return new PeerLink({
      self,
      peer,
      addressOf: () => directory.peer(machine)?.address,
      clock,
      random,
      liveness,
      loadUndici,
      onOutranked: (key, claim) => onOutranked(key, { ...claim, machine }),
      onAnnouncementsLost: (count) => onAnnouncementsLost?.(count),
    });
  }

  #unlink(machine: MachineId): void {
    const closing = this.#links.get(machine)?.close();
    this.#links.delete(machine);
    if (!closing) return;
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }
}

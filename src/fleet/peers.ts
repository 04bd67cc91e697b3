/** Asking the other Machines who owns a session, and telling them what we own. */
import type { Binding, MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import type { Claimant } from './conflict.ts';
import type { Directory, Peer } from './directory.ts';
import { claimOf, type Claim } from './messages.ts';
import type { LoadUndici } from './peer-client.ts';
import { PeerLink, QUESTION_TIMEOUT_MS } from './peer-link.ts';
import { Question, type OnPeerAnswer, type PeersAnswer, type QuestionOptions } from './question.ts';
import type { Silences } from './silences.ts';
import { createTokenBucket, type TakeToken } from './token-bucket.ts';

export type { OnPeerAnswer, PeersAnswer } from './question.ts';

export interface Peers {
  /**
   * Who of the peers owns the key; within 300 ms, never rejects. `none` only if every Machine of a
   * directory in good order said no within the last two seconds; `inconclusive` at once for what
   * is beyond the bounds. With the binding that we hold ourselves, the peers weigh it against
   * theirs: an owner is then one that outranks us, and `onOutranked` was called. `onEach` is told
   * what each peer has said until the answer is there, and what it had said before.
   */
  ask(key: SessionKey, ours?: Binding, onEach?: OnPeerAnswer): Promise<PeersAnswer>;
  /** Tells every peer, best effort, of a binding of our own (others are ignored). Returns at once. */
  announce(binding: Binding, ttlMs: number): void;
  /** Whether the sidecar of that Machine answers; within a second, never rejects. */
  ping(machine: MachineId): Promise<boolean>;
  /** Questions under way end inconclusive; no timer or socket is left when it resolves. */
  stop(): Promise<void>;
}

export interface PeersOptions {
  readonly self: MachineId;
  readonly directory: Pick<Directory, 'others' | 'peer' | 'status'>;
  readonly clock: Clock;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Told who answers and who does not. */
  readonly silences: Pick<Silences, 'noteSilence' | 'noteLife'>;
  /** Another Machine's claim outranks the one that was sent: the keeper has to hear of it. */
  readonly onOutranked: (key: SessionKey, winner: Claimant) => void;
  /** Called once per question, and for each one that is beyond the bounds (`shed`). */
  readonly onQuestion?: (outcome: 'owner' | 'none' | 'inconclusive' | 'shed') => void;
  /** Announcements that did not reach a peer: no room, or no answer. */
  readonly onAnnouncementsLost?: (count: number) => void;
  /** Called when the first peer is asked or told; while it rejects, the peers count as silent. */
  readonly loadUndici?: LoadUndici;
}

/** Keys being asked about at once. */
export const MAX_QUESTIONS = 1_024;
/** What a flood of made-up ids may cost: so many questions a second, each put to every peer. */
export const QUESTIONS_PER_SECOND = 500;
export const QUESTION_BURST = 1_000;

const NONE: PeersAnswer = { kind: 'none' };
const INCONCLUSIVE: PeersAnswer = { kind: 'inconclusive' };

export function createPeers(options: PeersOptions): Peers {
  return new FleetPeers(options);
}

/** Has a link to each Machine that the directory lists; a Machine that leaves takes its link along. */
class FleetPeers implements Peers {
  readonly #options: PeersOptions;
  readonly #takeToken: TakeToken;
  readonly #questions = new Map<SessionKey, Question>();
  readonly #links = new Map<MachineId, PeerLink>();
  readonly #closing = new Set<Promise<void>>();
  /** What the links were last made for: the directory hands out one array per reading. */
  #linkedTo: readonly Peer[] = [];
  #isStopped = false;

  constructor(options: PeersOptions) {
    this.#options = options;
    const rate = { ratePerSecond: QUESTIONS_PER_SECOND, burst: QUESTION_BURST };
    this.#takeToken = createTokenBucket({ ...rate, clock: options.clock });
  }

  ask(key: SessionKey, ours?: Binding, onEach?: OnPeerAnswer): Promise<PeersAnswer> {
    if (this.#isStopped) return Promise.resolve(INCONCLUSIVE);
    const status = this.#options.directory.status().kind;
    if (status === 'off') return Promise.resolve(NONE);
    const asked = this.#questions.get(key);
    if (asked) return asked.answer(onEach);

    const areAllPeers = status === 'ok' || status === 'static';
    const claim = this.#claimOf(ours);
    const links = this.#linksToAsk(key, claim, onEach);
    if (links.length === 0) return Promise.resolve(areAllPeers ? NONE : INCONCLUSIVE);
    if (this.#questions.size >= MAX_QUESTIONS || !this.#takeToken()) return this.#shed();
    return this.#open({ key, claim, links, areAllPeers }).answer(onEach);
  }

  announce(binding: Binding, ttlMs: number): void {
    if (this.#isStopped || binding.machine !== this.#options.self) return;
    const claim = claimOf(binding, ttlMs);
    for (const link of this.#currentLinks()) link.announce(binding.key, claim);
  }

  async ping(machine: MachineId): Promise<boolean> {
    if (this.#isStopped) return false;
    const link = this.#currentLinks().find((one) => one.machine === machine);
    return (await link?.ping()) ?? false;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const question of [...this.#questions.values()]) question.giveUp();
    for (const machine of [...this.#links.keys()]) this.#unlink(machine);
    await Promise.all(this.#closing);
  }

  #shed(): Promise<PeersAnswer> {
    this.#options.onQuestion?.('shed');
    return Promise.resolve(INCONCLUSIVE);
  }

  #open(asked: Pick<QuestionOptions, 'key' | 'claim' | 'links' | 'areAllPeers'>): Question {
    const { self, clock, onQuestion, onOutranked } = this.#options;
    const { key, claim } = asked;
    const question = new Question({
      ...asked,
      self,
      startDeadline: (onOver) => clock.after(QUESTION_TIMEOUT_MS, onOver),
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

  /** With a claim of our own everyone is asked: what a peer said before it knew of it does not count. */
  #linksToAsk(key: SessionKey, claim: Claim | undefined, onEach?: OnPeerAnswer): PeerLink[] {
    return this.#currentLinks().filter((link) => {
      const isToBeAsked = claim !== undefined || !link.saidNo(key);
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
      if (!this.#links.has(peer.machine)) this.#links.set(peer.machine, this.#linkTo(peer));
    }
  }

  #linkTo(peer: Peer): PeerLink {
    const { self, directory, clock, random, silences } = this.#options;
    const { onOutranked, onAnnouncementsLost, loadUndici } = this.#options;
    const { machine } = peer;
    return new PeerLink({
      self,
      peer,
      addressOf: () => directory.peer(machine)?.address,
      clock,
      random,
      silences,
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

/** All that passes between this Machine and one peer: questions, announcements, and when to leave it alone. */
import type { MachineId, SessionKey } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { createCircuitBreaker, type CircuitBreaker } from '../resilience.ts';
import { createBatcher, type Batcher } from './batcher.ts';
import { outranks } from './conflict.ts';
import type { Peer } from './directory.ts';
import {
  ANNOUNCE_PATH,
  ASK_PATH,
  formatAnnounce,
  formatAsk,
  MAX_KEYS,
  parseAnswer,
  type Claim,
  type KeyAnswer,
} from './messages.ts';
import { createPeerClient, type LoadUndici, type PeerClient } from './peer-client.ts';
import { createRecentKeys, type RecentKeys } from './recent-keys.ts';
import { dialNotes, type Silences } from './silences.ts';

export interface PeerLinkOptions {
  readonly self: MachineId;
  readonly peer: Peer;
  /** The peer's address as known now. */
  readonly addressOf: () => string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly silences: Pick<Silences, 'noteSilence' | 'noteLife'>;
  /** The peer has answered an announcement with a claim that outranks ours. */
  readonly onOutranked: (key: SessionKey, claim: Claim) => void;
  /** So many announcements will not reach the peer. */
  readonly onAnnouncementsLost: (count: number) => void;
  readonly loadUndici?: LoadUndici | undefined;
}

/** A question stands for at most so long, in ms, and so does a batch of them. */
export const QUESTION_TIMEOUT_MS = 300;
const ANNOUNCEMENT_TIMEOUT_MS = 1_000;
const PING_TIMEOUT_MS = 1_000;
const MAX_ANNOUNCEMENTS_WAITING = 1_024;
const NO_REMEMBERED_MS = 2_000;
const MAX_NO_REMEMBERED = 4_096;
const BREAKER = { failureThreshold: 3, openMs: 1_000, maxOpenMs: 5_000 };

interface Waiting {
  readonly claim: Claim | undefined;
  readonly onAnswer: (answer: KeyAnswer) => void;
}

/**
 * At most one batch of questions and one of announcements are under way. An answer counts only if
 * it names the Machine that was asked: addresses are given to other Machines again.
 */
export class PeerLink {
  readonly machine: MachineId;
  readonly #options: PeerLinkOptions;
  readonly #client: PeerClient;
  readonly #breaker: CircuitBreaker;
  readonly #recentNo: RecentKeys;
  readonly #questions: Batcher<SessionKey, Waiting>;
  readonly #announcements: Batcher<SessionKey, Claim>;
  #isClosed = false;

  constructor(options: PeerLinkOptions) {
    const { peer, clock, random, silences } = options;
    this.machine = peer.machine;
    this.#options = options;
    const onDialled = dialNotes(silences, peer.machine);
    this.#client = createPeerClient({ ...options, onDialled });
    this.#breaker = createCircuitBreaker({ ...BREAKER, clock, random });
    const bound = { ttlMs: NO_REMEMBERED_MS, maxKeys: MAX_NO_REMEMBERED };
    this.#recentNo = createRecentKeys({ ...bound, clock });
    this.#questions = createBatcher({
      maxBatch: MAX_KEYS,
      send: (batch) => this.#sendQuestions(batch),
    });
    this.#announcements = createBatcher({
      maxBatch: MAX_KEYS,
      send: (batch) => this.#sendAnnouncements(batch),
    });
  }

  /** Whether the peer has said within the last two seconds that it does not own the key. */
  saidNo(key: SessionKey): boolean {
    return this.#recentNo.has(key);
  }

  /** Asks with the next batch. `onAnswer` is called once, at once where the peer is left alone. */
  ask(key: SessionKey, claim: Claim | undefined, onAnswer: (answer: KeyAnswer) => void): void {
    if (this.#isClosed || !this.#breaker.mayBegin()) onAnswer('unknown');
    else this.#questions.add(key, { claim, onAnswer });
  }

  /** Takes a question back that was not sent yet, and says whether it did; it gets no answer then. */
  withdraw(key: SessionKey): boolean {
    return this.#questions.remove(key);
  }

  /** Best effort: the oldest are dropped where there is no room, all where the peer is left alone. */
  announce(key: SessionKey, claim: Claim): void {
    if (this.#isClosed) return;
    if (!this.#breaker.mayBegin()) {
      this.#options.onAnnouncementsLost(1);
      return;
    }
    this.#announcements.add(key, claim);
    if (this.#announcements.size() <= MAX_ANNOUNCEMENTS_WAITING) return;
    this.#announcements.removeOldest();
    this.#options.onAnnouncementsLost(1);
  }

  /** Whether the peer answers a message without a question. It is asked even if others have failed. */
  async ping(): Promise<boolean> {
    if (this.#isClosed) return false;
    const { self, clock, silences } = this.#options;
    const deadline = new AbortController();
    const cancelDeadline = clock.after(PING_TIMEOUT_MS, () => deadline.abort());
    try {
      const body = formatAsk({ from: self, questions: [] });
      const message = parseAnswer(await this.#client.post(ASK_PATH, body, deadline.signal));
      return message?.machine === this.machine;
    } catch {
      // Whatever the cause: the caller counts how often.
      if (deadline.signal.aborted) silences.noteSilence(this.machine);
      return false;
    } finally {
      cancelDeadline();
    }
  }

  /** Questions under way end unanswered. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#announcements.clear();
    await this.#client.close();
    await Promise.all([this.#questions.idle(), this.#announcements.idle()]);
  }

  async #sendQuestions(batch: ReadonlyMap<SessionKey, Waiting>): Promise<void> {
    const questions = [...batch].map(([key, { claim }]) => (claim ? { key, claim } : { key }));
    const body = formatAsk({ from: this.#options.self, questions });
    const answers = await this.#exchange(ASK_PATH, body, QUESTION_TIMEOUT_MS);
    for (const [key, { onAnswer }] of batch) {
      const answer = answers?.get(key) ?? 'unknown';
      if (answer === 'no') this.#recentNo.add(key);
      onAnswer(answer);
    }
  }

  async #sendAnnouncements(batch: ReadonlyMap<SessionKey, Claim>): Promise<void> {
    const { self, onAnnouncementsLost, onOutranked } = this.#options;
    const bindings = [...batch].map(([key, claim]) => ({ key, claim }));
    const body = formatAnnounce({ from: self, bindings });
    const answers = await this.#exchange(ANNOUNCE_PATH, body, ANNOUNCEMENT_TIMEOUT_MS);
    if (!answers) onAnnouncementsLost(batch.size);
    for (const [key, ours] of batch) {
      const theirs = answers?.get(key);
      if (typeof theirs === 'object' && this.#isOutranked(key, ours, theirs))
        onOutranked(key, theirs);
    }
  }

  /** Reckoned here too, so that no answer makes us give up what by the rule is ours. */
  #isOutranked(key: SessionKey, ours: Claim, theirs: Claim): boolean {
    const we = { ...ours, machine: this.#options.self };
    return outranks(key, { ...theirs, machine: this.machine }, we);
  }

  /** The answers, or undefined where the peer has not answered as it should. Never rejects. */
  async #exchange(
    path: string,
    body: string,
    timeoutMs: number,
  ): Promise<ReadonlyMap<SessionKey, KeyAnswer> | undefined> {
    const attempt = this.#isClosed ? undefined : this.#breaker.begin();
    if (!attempt) return undefined;
    // Before the deadline: how long we take ourselves says nothing of the peer.
    if (!(await this.#openClient())) {
      attempt.failed();
      return undefined;
    }
    const deadline = new AbortController();
    const cancelDeadline = this.#options.clock.after(timeoutMs, () => deadline.abort());
    try {
      const message = parseAnswer(await this.#client.post(path, body, deadline.signal));
      if (message?.machine !== this.machine) throw new Error('another Machine has answered');
      attempt.succeeded();
      this.#options.silences.noteLife(this.machine);
      return message.answers;
    } catch {
      // Silence, whatever its cause: the breaker counts it, and the questions stay unanswered.
      attempt.failed();
      // A refusal, or another's answer, says nothing of whether the one that was meant is there.
      if (deadline.signal.aborted) this.#options.silences.noteSilence(this.machine);
      return undefined;
    } finally {
      cancelDeadline();
    }
  }

  /** Whether the peer can be asked. One that can't, for a reason of our own, is as good as silent. */
  async #openClient(): Promise<boolean> {
    try {
      await this.#client.open();
      return true;
    } catch {
      // Whoever hands `loadUndici` in reports it.
      if (!this.#isClosed) this.#options.silences.noteSilence(this.machine);
      return false;
    }
  }
}

/** All that passes between this Machine and one peer: questions, announcements, and when to leave it alone. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import { createCircuitBreaker, type CircuitBreaker } from '../resilience.ts';
import { createBatcher, type Batcher } from './batcher.ts';
import { outranks } from './claims.ts';
import type { DialOutcome } from './dial.ts';
import type { Peer } from './directory.ts';
import type { Liveness } from './liveness.ts';
import {
  ANNOUNCE_PATH,
  ASK_PATH,
  formatAnnounce,
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
  type LoadUndici,
  type PeerClient,
} from './peer-client.ts';
import type { Announcement } from './recent-announcements.ts';
import { createRecentKeys, type RecentKeys } from './recent-keys.ts';

/** What a link tells of its peer, and whether it need not ask it. */
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

export interface PeerLinkOptions {
  readonly self: MachineId;
  readonly peer: Peer;
  /** The peer's address as known now. */
  readonly addressOf: () => string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly liveness: LinkLiveness;
  /** The peer has answered an announcement with a claim that outranks ours. */
  readonly onOutranked: (key: SessionKey, claim: Claim) => void;
  /** So many announcements will not reach the peer. */
  readonly onAnnouncementsLost: (count: number) => void;
  readonly loadUndici?: LoadUndici | undefined;
}

/** After so long, in ms, the next questions no longer wait for the answer to the last ones. */
export const QUERY_TIMEOUT_MS = 300;
/**
 * What is not answered for so long, in ms, never is. A peer that is short of processor time takes its
 * time: to count that as silence would make its fleet ask more, and answer still later.
 */
export const RESPONSE_TIMEOUT_MS = 2_000;
/** So many batches of questions may be late while the next one is under way. */
const MAX_LATE = 1;
const PING_TIMEOUT_MS = 1_000;
export const HEARTBEAT_TIMEOUT_MS = 1_000;
/** A peer that knows no status messages: it takes sessions, and places none. */
const STATUS_OF_OLD_VERSION: PeerStatus = { version: 1, takesSessions: true, region: undefined };
const MAX_ANNOUNCEMENTS_WAITING = 1_024;
/** Kept for a peer that does not answer, until it does: it may hold the same keys. */
const MAX_ANNOUNCEMENTS_OWED = 16_384;
const NO_REMEMBERED_MS = 2_000;
const MAX_NO_REMEMBERED = 4_096;
const BREAKER = { failureThreshold: 3, openMs: 1_000, maxOpenMs: 5_000 };

interface Waiting {
  readonly claim: Claim | undefined;
  readonly onAnswer: (answer: KeyResponse) => void;
}

/**
 * At most one batch of questions (two if one is late) and one of announcements are under way. An
 * answer counts only if it names the Machine that was asked: addresses are given to other Machines
 * again.
 */
export class PeerLink {
  readonly machine: MachineId;
  readonly #options: PeerLinkOptions;
  readonly #client: PeerClient;
  readonly #breaker: CircuitBreaker;
  readonly #recentNo: RecentKeys;
  readonly #questions: Batcher<SessionKey, Waiting>;
  readonly #announcements: Batcher<SessionKey, Announcement>;
  readonly #owed = new Map<SessionKey, Announcement>();
  /** Announcements under way that are still true. */
  #announcing = new Map<SessionKey, Announcement>();
  /** Of each batch of questions under way, the keys to which a "no" is out of date. */
  readonly #outdated = new Set<Set<SessionKey>>();
  /** Batches of questions under way. */
  readonly #asking = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: PeerLinkOptions) {
    const { peer, clock, random } = options;
    this.machine = peer.machine;
    this.#options = options;
    const onDialled = (outcome: DialOutcome): void => this.#onDialled(outcome);
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

  /** It may be closed while something is awaited. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** It may own the key now: what it has said before, or is just saying, does not count any more. */
  forgetNo(key: SessionKey): void {
    this.#recentNo.delete(key);
    for (const outdated of this.#outdated) outdated.add(key);
  }

  /** Asks with the next batch. `onAnswer` is called once, at once where the peer is left alone. */
  ask(key: SessionKey, claim: Claim | undefined, onAnswer: (answer: KeyResponse) => void): void {
    if (this.#isClosed || !this.#breaker.mayBegin()) onAnswer('unknown');
    else this.#questions.add(key, { claim, onAnswer });
  }

  /** Takes a question back that was not sent yet, and says whether it did; it gets no answer then. */
  withdraw(key: SessionKey): boolean {
    return this.#questions.remove(key);
  }

  /** The oldest are dropped where there is no room. A peer that does not answer is told once it does. */
  announce(key: SessionKey, announcement: Announcement): void {
    if (!this.#isClosed) this.#announce(key, announcement);
  }

  /** Tells it with the peer's next answer. */
  announceLater(key: SessionKey, announcement: Announcement): void {
    if (!this.#isClosed) this.#owe(key, announcement);
  }

  /** Drops announcements of the key that were not sent yet, and does not repeat one that is under way. */
  retract(key: SessionKey): void {
    this.#owed.delete(key);
    this.#announcements.remove(key);
    this.#announcing.delete(key);
  }

  #announce(key: SessionKey, announcement: Announcement): void {
    if (!this.#breaker.mayBegin()) {
      this.#owe(key, announcement);
      return;
    }
    this.#owed.delete(key);
    this.#announcements.add(key, announcement);
    if (this.#announcements.size() <= MAX_ANNOUNCEMENTS_WAITING) return;
    this.#announcements.removeOldest();
    this.#options.onAnnouncementsLost(1);
  }

  #owe(key: SessionKey, announcement: Announcement): void {
    this.#owed.delete(key);
    this.#owed.set(key, announcement);
    if (this.#owed.size <= MAX_ANNOUNCEMENTS_OWED) return;
    const [oldest] = this.#owed.keys();
    if (oldest !== undefined) this.#owed.delete(oldest);
    this.#options.onAnnouncementsLost(1);
  }

  /** The peer answers: as many as one queue takes, the others with the next answer. */
  #announceOwed(): void {
    for (const [key, announcement] of this.#owed) {
      if (this.#isClosed || this.#announcements.size() >= MAX_ANNOUNCEMENTS_WAITING) return;
      if (!this.#breaker.mayBegin()) return;
      this.#owed.delete(key);
      if (announcement.endsAtMs > this.#options.clock.monotonicMs())
        this.#announcements.add(key, announcement);
    }
  }

  /** Whether the peer answers a message without a question. It is asked even if others have failed. */
  async ping(): Promise<boolean> {
    if (this.#isClosed) return false;
    const { self, clock, liveness } = this.#options;
    const deadline = new AbortController();
    const cancelDeadline = clock.after(PING_TIMEOUT_MS, () => deadline.abort());
    try {
      const body = formatAsk({ from: self, questions: [] });
      const message = parseResponse(await this.#client.post(ASK_PATH, body, deadline.signal));
      return message?.machine === this.machine;
    } catch {
      // Whatever the cause: the caller counts how often.
      if (deadline.signal.aborted) liveness.onNoResponse(this.machine);
      return false;
    } finally {
      cancelDeadline();
    }
  }

  /**
   * One heartbeat: tells our status and asks for the peer's; `liveness` is told what comes of it.
   * It is sent even where questions have failed. Resolves to whether the peer has answered; never rejects.
   */
  async exchangeStatus(status: PeerStatus): Promise<boolean> {
    const { self, clock, liveness } = this.#options;
    if (this.#isClosed || !(await this.#openClient())) return false;
    const deadline = new AbortController();
    const cancelDeadline = clock.after(HEARTBEAT_TIMEOUT_MS, () => deadline.abort());
    try {
      const body = formatStatus({ from: self, status });
      const message = parseStatusResponse(
        await this.#client.post(STATUS_PATH, body, deadline.signal),
      );
      if (message?.machine !== this.machine) throw new Error('another Machine has answered');
      liveness.onStatus(this.machine, message.status);
      this.#announceOwed();
      return true;
    } catch (error) {
      if (this.isClosed) return false;
      const status = error instanceof PeerStatusError ? error.status : undefined;
      if (status === 404) {
        liveness.onStatus(this.machine, STATUS_OF_OLD_VERSION);
        this.#announceOwed();
      } else if (status === 403) liveness.onNotListed(this.machine);
      else liveness.onMissedHeartbeat(this.machine);
      return status === 404;
    } finally {
      cancelDeadline();
    }
  }

  #onDialled(outcome: DialOutcome): void {
    const { liveness } = this.#options;
    if (outcome === 'connected') liveness.onConnected(this.machine);
    else liveness.onConnectFailed(this.machine, outcome === 'refused');
  }

  /** Questions under way end unanswered. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#owed.clear();
    this.#announcements.clear();
    await this.#client.close();
    await Promise.all([this.#questions.idle(), this.#announcements.idle()]);
    await Promise.all(this.#asking);
  }

  /** Resolves when the next batch may go: one answer may be late, and still counts when it comes. */
  async #sendQuestions(batch: ReadonlyMap<SessionKey, Waiting>): Promise<void> {
    const answered = this.#exchangeQuestions(batch).finally(() => this.#asking.delete(answered));
    this.#asking.add(answered);
    if (this.#asking.size > MAX_LATE) return answered;
    const isLate = Promise.withResolvers<undefined>();
    const cancel = this.#options.clock.after(QUERY_TIMEOUT_MS, () => isLate.resolve(undefined));
    await Promise.race([answered, isLate.promise]);
    cancel();
  }

  async #exchangeQuestions(batch: ReadonlyMap<SessionKey, Waiting>): Promise<void> {
    const questions = [...batch].map(([key, { claim }]) => (claim ? { key, claim } : { key }));
    const body = formatAsk({ from: this.#options.self, questions });
    const { clock } = this.#options;
    const sentAtMs = clock.monotonicMs();
    const outdated = new Set<SessionKey>();
    this.#outdated.add(outdated);
    const answers = await this.#exchange(ASK_PATH, body);
    this.#outdated.delete(outdated);
    if (answers) this.#announceOwed();
    const isLate = clock.monotonicMs() - sentAtMs >= QUERY_TIMEOUT_MS;
    for (const [key, { onAnswer }] of batch) {
      const said = answers?.get(key) ?? 'unknown';
      const answer = said === 'no' && outdated.has(key) ? 'unknown' : said;
      if (answer === 'no' && !isLate) this.#recentNo.add(key);
      if (typeof answer === 'object') this.forgetNo(key);
      onAnswer(answer);
    }
  }

  async #sendAnnouncements(batch: ReadonlyMap<SessionKey, Announcement>): Promise<void> {
    const { self, clock, onOutranked } = this.#options;
    const announcing = (this.#announcing = new Map(batch));
    const now = clock.monotonicMs();
    const bindings = [...batch].map(([key, { claim, endsAtMs }]) => {
      const ttlMs = Math.max(1, Math.floor(endsAtMs - now));
      return { key, claim: { ...claim, ttlMs } };
    });
    const body = formatAnnounce({ from: self, bindings });
    const answers = await this.#exchange(ANNOUNCE_PATH, body);
    const isToldLater = answers && [...answers.values()].includes('unknown');
    // Else it would be told again and again, for as long as its store can't tell.
    if (answers && !isToldLater) this.#announceOwed();
    for (const [key, announcement] of announcing) {
      if (!answers) {
        // Unless a newer one has been given since.
        if (!this.#isClosed && !this.#owed.has(key)) this.#owe(key, announcement);
        continue;
      }
      const ours = announcement.claim;
      const theirs = answers.get(key);
      // Its store could not tell whether it has the key too.
      if (theirs === 'unknown' && !this.#owed.has(key)) this.#owe(key, announcement);
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
  ): Promise<ReadonlyMap<SessionKey, KeyResponse> | undefined> {
    const attempt = this.#isClosed ? undefined : this.#breaker.begin();
    if (!attempt) return undefined;
    // Before the deadline: how long we take ourselves says nothing of the peer.
    if (!(await this.#openClient())) {
      attempt.failed();
      return undefined;
    }
    const deadline = new AbortController();
    const cancelDeadline = this.#options.clock.after(RESPONSE_TIMEOUT_MS, () => deadline.abort());
    try {
      const message = parseResponse(await this.#client.post(path, body, deadline.signal));
      if (message?.machine !== this.machine) throw new Error('another Machine has answered');
      attempt.succeeded();
      this.#options.liveness.onResponse(this.machine);
      return message.answers;
    } catch {
      // Silence, whatever its cause: the breaker counts it, and the questions stay unanswered.
      attempt.failed();
      // A refusal, or another's answer, says nothing of whether the one that was meant is there.
      if (deadline.signal.aborted) this.#options.liveness.onNoResponse(this.machine);
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
      if (!this.#isClosed) this.#options.liveness.onNoResponse(this.machine);
      return false;
    }
  }
}

/** One key that the peers are being asked about, until all of them have answered or time is up. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Cancel } from '../clock.ts';
import { outranks, type Claimant } from './claims.ts';
import type { Claim, KeyResponse } from './messages.ts';
import type { PeerLink } from './peer-link.ts';

/** `none`: every peer said that it does not own the key. `inconclusive`: somebody has not said. */
export type PeerLookup =
  | {
      readonly kind: 'owner';
      readonly machine: MachineId;
      readonly generation: number;
      /** Time to live left, in ms. */
      readonly ttlMs: number;
      /** A request of it is being served there, and the app has not accepted it yet. */
      readonly isPending?: true | undefined;
    }
  | { readonly kind: 'none' }
  /** `isShed`: nobody was asked, as its source asks too much. */
  | { readonly kind: 'inconclusive'; readonly isShed?: true };

export type OnPeerResponse = (machine: MachineId, answer: KeyResponse) => void;

export interface OwnerQueryOptions {
  readonly key: SessionKey;
  readonly self: MachineId;
  /** This Machine's own claim, if it has one: then only a claim that outranks it is an owner. */
  readonly claim: Claim | undefined;
  readonly links: readonly PeerLink[];
  /** Whether these are certainly all the peers there are; otherwise nobody is ever `none`. */
  readonly areAllPeers: boolean;
  /** Calls the function when time is up. */
  readonly startDeadline: (onOver: () => void) => Cancel;
  /** What a peer claims, once for each, also when nobody waits for it any more. */
  readonly onClaim: ((claimant: Claimant) => void) | undefined;
  /** The first answer to {@link OwnerQuery.answer} is there; `owner` is the claim behind it. */
  readonly onAnswered: (answer: PeerLookup, owner: Claimant | undefined) => void;
  /** Nothing more will come. */
  readonly onClosed: () => void;
}

/**
 * ```
 * open --a peer owns the key--> answered --the last peer has answered, or time is up--> closed
 *   '------the last peer has answered, or time is up: none or inconclusive---------------^
 * ```
 * The first owner ends the waiting; questions not sent yet are taken back. Those who ask while
 * other answers are still under way get the best owner so far, so that two Machines that both own
 * the key do not both go on being found.
 */
export class OwnerQuery {
  readonly #options: OwnerQueryOptions;
  readonly #unanswered: Set<PeerLink>;
  readonly #answer = Promise.withResolvers<PeerLookup>();
  readonly #cancelDeadline: Cancel;
  #isInDoubt: boolean;
  #owner: Claimant | undefined;
  readonly #answers: [MachineId, KeyResponse][] = [];
  readonly #watchers: OnPeerResponse[] = [];
  #isClosed = false;

  constructor(options: OwnerQueryOptions) {
    this.#options = options;
    this.#isInDoubt = !options.areAllPeers;
    this.#unanswered = new Set(options.links);
    this.#cancelDeadline = options.startDeadline(() => this.giveUp());
    for (const link of options.links) {
      link.ask(options.key, options.claim, (answer) => this.#take(link, answer));
    }
  }

  answer(onEach?: OnPeerResponse): Promise<PeerLookup> {
    if (onEach) {
      for (const [machine, answer] of this.#answers) onEach(machine, answer);
      this.#watchers.push(onEach);
    }
    return this.#owner ? Promise.resolve(ownerAnswer(this.#owner)) : this.#answer.promise;
  }

  isClosed(): boolean {
    return this.#isClosed;
  }

  /** Time is up, or nobody needs to know any more: whoever has not answered has said nothing. */
  giveUp(): void {
    if (this.#unanswered.size > 0) this.#isInDoubt = true;
    this.#withdraw();
    this.#close();
  }

  #take(link: PeerLink, answer: KeyResponse): void {
    // What is not accepted yet may be refused.
    const isClaim = typeof answer === 'object' && !answer.isPending;
    if (isClaim) this.#options.onClaim?.({ ...answer, machine: link.machine });
    if (this.#isClosed) return;
    this.#unanswered.delete(link);
    this.#answers.push([link.machine, answer]);
    for (const onEach of this.#watchers) onEach(link.machine, answer);
    if (answer === 'unknown') this.#isInDoubt = true;
    if (typeof answer === 'object') this.#takeClaim({ ...answer, machine: link.machine });
    if (this.#unanswered.size === 0) this.#close();
  }

  #takeClaim(claimant: Claimant): void {
    const { self, claim, key } = this.#options;
    if (claim && outranks(key, { ...claim, machine: self }, claimant)) return;
    const isFirst = this.#owner === undefined;
    if (!this.#owner || outranks(key, claimant, this.#owner)) this.#owner = claimant;
    if (!isFirst) return;
    this.#withdraw();
    this.#settle(ownerAnswer(claimant));
  }

  #withdraw(): void {
    for (const link of this.#unanswered) {
      if (link.withdraw(this.#options.key)) this.#unanswered.delete(link);
    }
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelDeadline();
    if (!this.#owner) this.#settle({ kind: this.#isInDoubt ? 'inconclusive' : 'none' });
    this.#options.onClosed();
  }

  #settle(answer: PeerLookup): void {
    this.#options.onAnswered(answer, this.#owner);
    this.#answer.resolve(answer);
  }
}

function ownerAnswer({ machine, generation, ttlMs, isPending }: Claimant): PeerLookup {
  const answer = { kind: 'owner', machine, generation, ttlMs } as const;
  return isPending ? { ...answer, isPending } : answer;
}

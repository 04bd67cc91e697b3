/** The query of all peers for one key, until each has responded or a timeout ends it. */
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { Cancel } from '../clock.ts';
import { outranks, type Claimant } from './claim-resolver.ts';
import type { Claim, KeyResponse } from './messages.ts';
import type { PeerLink } from './peer-link.ts';
import type { Source } from './rate-limits.ts';

/** `none`: no peer owns the key. `inconclusive`: a peer has not responded, or its store can't tell. */
export type PeerLookup =
  | {
      readonly kind: 'owner';
      readonly machine: MachineId;
      readonly generation: number;
      /** Time to live left, in ms. */
      readonly ttlMs: number;
      /** A request of the session is in flight there, and the app has not accepted it yet. */
      readonly isPending?: true | undefined;
    }
  | { readonly kind: 'none' }
  /** `isShed`: no peer was queried, as the source exceeds its rate limit. */
  | { readonly kind: 'inconclusive'; readonly isShed?: true };

export type OnPeerResponse = (machine: MachineId, response: KeyResponse) => void;

export interface AskOptions {
  /** Our own binding. An owner is then one whose claim outranks it, and `onOutranked` was called. */
  readonly ownBinding?: Binding | undefined;
  /** Called with the response of each peer until there is a result, including cached ones. */
  readonly onResponse?: OnPeerResponse | undefined;
  /** The source of the request behind this query. */
  readonly source?: Source | undefined;
  /**
   * The owner is known and can't be reached. All its clients retry every second, each within its
   * share, so they leave the reserve to new sessions.
   */
  readonly hasKnownOwner?: boolean | undefined;
  /** Waits for late peers, as long as none is known to be unresponsive and few queries are in flight. */
  readonly waitsForSlowPeers?: boolean | undefined;
  /** Queries peers again that have just denied the key. */
  readonly skipsCache?: boolean | undefined;
  /** Does not store the responses. */
  readonly isDryRun?: boolean | undefined;
}

export interface OwnerQueryOptions {
  readonly key: SessionKey;
  readonly self: MachineId;
  /** This Machine's own claim, if it has one. Then only a claim that outranks it makes an owner. */
  readonly claim: Claim | undefined;
  readonly links: readonly PeerLink[];
  /** Whether `links` certainly has all peers. If not, the result is never `none`. */
  readonly areAllPeers: boolean;
  readonly startTimeout: (onTimeout: () => void) => Cancel;
  /** Called with each peer's claim, also after the result. */
  readonly onClaim: ((claimant: Claimant) => void) | undefined;
  /** Called once, with the first {@link OwnerQuery.result}; `owner` is the claim behind it. */
  readonly onResult: (result: PeerLookup, owner: Claimant | undefined) => void;
  /** The query waits for no more responses. */
  readonly onClosed: () => void;
}

/**
 * ```
 * open --a peer owns the key--> resolved --the last peer has responded, or time is up--> closed
 *   '------the last peer has responded, or time is up: none or inconclusive---------------^
 * ```
 * The first owner is the result, and unsent queries are withdrawn. Later callers, while responses are
 * still in flight, get the best owner so far: if two Machines own the key, all of them get the same one.
 */
export class OwnerQuery {
  readonly #options: OwnerQueryOptions;
  readonly #waitingFor: Set<PeerLink>;
  readonly #result = Promise.withResolvers<PeerLookup>();
  readonly #cancelTimeout: Cancel;
  #isInDoubt: boolean;
  #owner: Claimant | undefined;
  readonly #responses: [MachineId, KeyResponse][] = [];
  readonly #listeners: OnPeerResponse[] = [];
  #isClosed = false;

  constructor(options: OwnerQueryOptions) {
    this.#options = options;
    this.#isInDoubt = !options.areAllPeers;
    this.#waitingFor = new Set(options.links);
    this.#cancelTimeout = options.startTimeout(() => this.end());
    for (const link of options.links) {
      link.ask(options.key, options.claim, (response) => this.#onResponse(link, response));
    }
  }

  result(onResponse?: OnPeerResponse): Promise<PeerLookup> {
    if (onResponse) {
      for (const [machine, response] of this.#responses) onResponse(machine, response);
      this.#listeners.push(onResponse);
    }
    return this.#owner ? Promise.resolve(lookupOf(this.#owner)) : this.#result.promise;
  }

  isClosed(): boolean {
    return this.#isClosed;
  }

  /** Stops waiting. A missing response is neither a yes nor a no. */
  end(): void {
    if (this.#waitingFor.size > 0) this.#isInDoubt = true;
    this.#withdraw();
    this.#close();
  }

  #onResponse(link: PeerLink, response: KeyResponse): void {
    const { machine } = link;
    const claimant = typeof response === 'object' ? { ...response, machine } : undefined;
    // The app may still reject what is pending.
    if (claimant && !claimant.isPending) this.#options.onClaim?.(claimant);
    if (this.#isClosed) return;
    this.#waitingFor.delete(link);
    this.#responses.push([machine, response]);
    for (const listener of this.#listeners) listener(machine, response);
    if (response === 'unknown') this.#isInDoubt = true;
    if (claimant) this.#onClaimant(claimant);
    if (this.#waitingFor.size === 0) this.#close();
  }

  #onClaimant(claimant: Claimant): void {
    const { self, claim, key } = this.#options;
    if (claim && outranks(key, { ...claim, machine: self }, claimant)) return;
    const isFirst = this.#owner === undefined;
    if (!this.#owner || outranks(key, claimant, this.#owner)) this.#owner = claimant;
    if (!isFirst) return;
    this.#withdraw();
    this.#resolve(lookupOf(claimant));
  }

  #withdraw(): void {
    for (const link of this.#waitingFor) {
      if (link.withdraw(this.#options.key)) this.#waitingFor.delete(link);
    }
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTimeout();
    if (!this.#owner) this.#resolve({ kind: this.#isInDoubt ? 'inconclusive' : 'none' });
    this.#options.onClosed();
  }

  #resolve(result: PeerLookup): void {
    this.#options.onResult(result, this.#owner);
    this.#result.resolve(result);
  }
}

function lookupOf({ machine, generation, ttlMs, isPending }: Claimant): PeerLookup {
  const lookup = { kind: 'owner', machine, generation, ttlMs } as const;
  return isPending ? { ...lookup, isPending } : lookup;
}

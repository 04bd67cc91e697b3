/** One owner lookup: what is looked up, how store, directory and peers are asked, and what comes of it. */
import type { Clock } from '../clock.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Liveness, LivenessState } from '../fleet/liveness.ts';
import type { AskOptions, OnPeerResponse, PeerLookup, Peers } from '../fleet/peers.ts';
import type { Source } from '../fleet/rate-limits.ts';
import type { Minter } from '../protocols/protocol.ts';
import type { FoundId } from '../protocols/request-ids.ts';
import { detachedCopy, sessionKeyOf } from '../session.ts';
import type { Binding, MachineId, SessionId, SessionKey } from '../session.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import type { KnownOwner, MachineState, OwnerLookup, RoutingFacts } from './facts.ts';
import type { Trace } from './trace.ts';

export interface FoundOwner {
  readonly key: SessionKey;
  readonly owner: OwnerLookup;
  /** What this Machine's store holds of the session. */
  readonly binding: Binding | undefined;
  /** Set if what looked like a hint belongs to the id: the app gets it as it is. */
  readonly wholeId: SessionId | undefined;
}

/** What a lookup needs to know of its request. */
export type LookupFacts = Pick<
  RoutingFacts,
  'from' | 'isPlaced' | 'replayedBy' | 'unmarkedFrom' | 'cameBackByFallback' | 'undeliveredTo'
>;

export interface LookupRequest {
  /** Whose rate limit pays for questions to peers. */
  readonly source: Source | undefined;
  /** The peer that has placed the session here: it knows nobody who has it, not even itself. */
  readonly placedBy: MachineId | undefined;
}

/** One lookup. */
export interface SessionLookup {
  readonly found: FoundId;
  readonly facts: LookupFacts;
  readonly request: LookupRequest;
  readonly trace: Trace;
  readonly key: SessionKey;
  readonly wholeId: SessionId | undefined;
  /** What this Machine's store says of the key, once it was asked. */
  stored: Lookup | undefined;
}

export interface OwnerFinderParts {
  readonly self: MachineId;
  /** Whether ids that the app mints go out with hints. */
  readonly hints: boolean;
  readonly replays: MachineState['replays'];
  readonly store: Pick<SessionStore, 'lookup' | 'isShared'>;
  readonly directory: Pick<Directory, 'findNewMachines' | 'peer'>;
  readonly liveness: Pick<Liveness, 'of' | 'listing' | 'isConfirmedGone'>;
  readonly peers: Pick<Peers, 'ask'>;
  readonly clock: Pick<Clock, 'now'>;
  /** Whether this Machine serves a request of the session which its app has not accepted yet. */
  readonly isInFlight: (key: SessionKey) => boolean;
  /** The Machine that a copy names does not have the session. */
  readonly onDisowned: (key: SessionKey, machine: MachineId) => void;
  /**
   * Set where the configuration knows of no other Machine: a binding that was made here and names one
   * is of this Machine's own past, and is to name it again.
   */
  readonly onOwnPast?: ((binding: Binding) => void) | undefined;
}

/** Each answer is a step that is traced. */
export class OwnerSources {
  readonly #parts: OwnerFinderParts;

  constructor(parts: OwnerFinderParts) {
    this.#parts = parts;
  }

  /** HOT PATH. */
  lookUp(key: SessionKey, trace: Trace): Lookup | Promise<Lookup> {
    const stored = this.#parts.store.lookup(key);
    if (!trace) return stored;
    return Promise.resolve(stored).then((found) => {
      trace({ step: 'store', key, said: this.#shown(found) });
      return found;
    });
  }

  /** HOT PATH. */
  livenessOf(machine: MachineId, trace: Trace): LivenessState {
    if (machine === this.#parts.self) return 'running';
    const liveness = this.#parts.liveness.of(machine);
    trace?.({ step: 'directory', machine, liveness });
    return liveness;
  }

  async askPeers(key: SessionKey, trace: Trace, how: AskOptions): Promise<PeerLookup> {
    const { peers } = this.#parts;
    if (!trace) return peers.ask(key, how);
    const each: Record<string, 'mine' | 'no' | 'unknown'> = {};
    const onResponse: OnPeerResponse = (machine, said) => {
      each[machine] = typeof said === 'string' ? said : 'mine';
      how.onResponse?.(machine, said);
    };
    const answer = await peers.ask(key, { ...how, onResponse, isDryRun: true });
    trace({ step: 'peers', key, each, answer });
    return answer;
  }

  /**
   * The app here can only say "not found" to an id that another Machine's app has minted, so late
   * answers are waited for, and a failure is asked once more: a connection that had just been lost
   * may have cost the first question.
   */
  async askForOwner(
    key: SessionKey,
    trace: Trace,
    mintedBy: Minter,
    source: Source | undefined,
  ): Promise<PeerLookup> {
    const waitsForSlowPeers = mintedBy !== 'client';
    const answer = await this.askPeers(key, trace, { source, waitsForSlowPeers });
    if (answer.kind === 'inconclusive' && mintedBy === 'app' && !answer.isShed)
      return this.askPeers(key, trace, { source });
    if (answer.kind !== 'none' || mintedBy === 'client') return answer;
    // A Machine that has just woken is on nobody's list for an interval, and may be the owner.
    const hasNewcomer = await this.findNewMachines(trace, mintedBy !== 'app');
    if (hasNewcomer === undefined) return { kind: 'inconclusive' };
    return hasNewcomer ? this.askPeers(key, trace, { source }) : answer;
  }

  /** Whether there is a Machine that nobody knew; undefined if the directory can't be read. */
  async findNewMachines(trace: Trace, isHurried: boolean): Promise<boolean | undefined> {
    const foundNewcomer = await this.#parts.directory.findNewMachines(isHurried);
    trace?.({ step: 'look-again', foundNewcomer });
    return foundNewcomer;
  }

  #shown(stored: Lookup): 'absent' | 'unknown' | object {
    if (typeof stored === 'string') return stored;
    const { machine, origin, generation, expiresAt } = stored;
    return { machine, origin, generation, expiresInMs: expiresAt - this.#parts.clock.now() };
  }
}

export function unbound<Owner extends OwnerLookup>(
  { key, wholeId }: SessionLookup,
  owner: Owner,
): FoundOwner & { readonly owner: Owner } {
  return { key, owner, binding: undefined, wholeId };
}

export function ofPeer({ machine }: { readonly machine: MachineId }): KnownOwner {
  return { kind: 'owner', machine, knownBy: 'peers', liveness: 'running' };
}

/**
 * Ids of each of two generations. The older one goes when the newer one is full. Together as many as
 * the store keeps bindings at hand, some 15 MB for as many sessions in use.
 */
const GENERATION = 50_000;

/**
 * Remembers the keys of session ids: hashing is the costliest step of finding a known owner. Ids are
 * credentials: they are kept in memory alone, where the process has them in its buffers anyway.
 */
export function createKeyCache(): (id: SessionId) => SessionKey {
  let newer = new Map<SessionId, SessionKey>();
  let older = newer;
  return (id) => {
    let key = newer.get(id);
    if (key !== undefined) return key;
    key = older.get(id) ?? detachedCopy(sessionKeyOf(id));
    if (newer.size === GENERATION) {
      older = newer;
      newer = new Map();
    }
    newer.set(detachedCopy(id), key);
    return key;
  };
}

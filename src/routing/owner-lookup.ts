/** One owner lookup: its input, its result, and its queries to store, directory and peers. */
import type { Clock } from '../clock.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Liveness, LivenessState } from '../fleet/liveness.ts';
import type { AskOptions, OnPeerResponse, PeerLookup, Peers } from '../fleet/peers.ts';
import type { Source } from '../fleet/rate-limits.ts';
import type { Protocol } from '../protocols/protocol.ts';
import type { FoundId } from '../protocols/request-ids.ts';
import {
  detachedCopy,
  sessionKeyOf,
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../session.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import type { KnownOwner, MachineState, OwnerLookup, RoutingFacts } from './facts.ts';
import type { Trace } from './trace.ts';

export interface FoundOwner {
  readonly key: SessionKey;
  readonly owner: OwnerLookup;
  /** The binding in this Machine's store. */
  readonly binding: Binding | undefined;
  /** Set if the apparent hint is part of the id: the app then receives the whole id. */
  readonly wholeId: SessionId | undefined;
}

/** The facts of a request that a lookup needs. */
export type LookupFacts = Pick<
  RoutingFacts,
  'from' | 'isPlaced' | 'replayedBy' | 'unmarkedFrom' | 'cameBackByFallback' | 'undeliveredTo'
>;

export interface LookupRequest {
  /** The rate limit that queries to peers count against. */
  readonly source: Source | undefined;
  /** The peer that placed the session here: it found no owner, and is not the owner itself. */
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
  /** The result of this Machine's store, after the first lookup. */
  stored: Lookup | undefined;
}

export interface OwnerFinderParts {
  readonly self: MachineId;
  /** Whether the sidecar adds hints to ids that the app mints. */
  readonly hints: boolean;
  readonly replays: MachineState['replays'];
  readonly store: Pick<SessionStore, 'lookup' | 'isShared'>;
  readonly directory: Pick<Directory, 'findNewMachines' | 'peer'>;
  readonly liveness: Pick<Liveness, 'of' | 'listing' | 'isConfirmedGone'>;
  readonly peers: Pick<Peers, 'ask'>;
  readonly clock: Pick<Clock, 'now'>;
  /** Whether this Machine serves a request of the session that its app has not accepted yet. */
  readonly isInFlight: (key: SessionKey) => boolean;
  /** The Machine that a copy names does not own the session. */
  readonly onDisowned: (key: SessionKey, machine: MachineId) => void;
  /**
   * Set if the configuration has no other Machine: a binding that was made here but names another Machine
   * is from an earlier id of this Machine, and must name the current one.
   */
  readonly onOwnPast?: ((binding: Binding) => void) | undefined;
}

/** The sources of an owner lookup. Each result is traced as a step. */
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
      trace.take({ step: 'store', key, result: this.#shown(found) });
      return found;
    });
  }

  /** HOT PATH. */
  livenessOf(machine: MachineId, trace: Trace): LivenessState {
    if (machine === this.#parts.self) return 'running';
    const liveness = this.#parts.liveness.of(machine);
    trace?.take({ step: 'directory', machine, liveness });
    return liveness;
  }

  async queryPeers(key: SessionKey, trace: Trace, how: AskOptions): Promise<PeerLookup> {
    const { peers } = this.#parts;
    if (!trace) return peers.ask(key, how);
    const each: Record<string, 'mine' | 'no' | 'unknown'> = {};
    const onResponse: OnPeerResponse = (machine, theirs) => {
      each[machine] = typeof theirs === 'string' ? theirs : 'mine';
      how.onResponse?.(machine, theirs);
    };
    const result = await peers.ask(key, { ...how, onResponse, isDryRun: trace.isDryRun });
    trace.take({ step: 'peers', key, each, result });
    return result;
  }

  /**
   * The app here can only return "not found" for an id that the app of another Machine minted. So this
   * waits for late responses, and retries once after a failure: the first query may have used a
   * connection that was already lost. What may be no id at all, but a part of the app's own URLs, must not
   * be slow.
   */
  async queryOwner(
    key: SessionKey,
    trace: Trace,
    { mintedBy, isGuess }: Pick<Protocol, 'mintedBy' | 'isGuess'>,
    source: Source | undefined,
  ): Promise<PeerLookup> {
    const isAppsOwn = mintedBy === 'app' && !isGuess;
    const waitsForSlowPeers = mintedBy !== 'client' && !isGuess;
    const result = await this.queryPeers(key, trace, { source, waitsForSlowPeers });
    if (result.kind === 'inconclusive' && isAppsOwn && !result.isShed)
      return this.queryPeers(key, trace, { source });
    if (result.kind !== 'none' || mintedBy === 'client') return result;
    // A Machine that has just started may be the owner, but is not listed until the next refresh.
    const foundNewMachine = await this.findNewMachines(trace, !isAppsOwn);
    if (foundNewMachine === undefined) return { kind: 'inconclusive' };
    return foundNewMachine ? this.queryPeers(key, trace, { source }) : result;
  }

  /** Whether the refresh found a new Machine; undefined if the directory can't be read. */
  async findNewMachines(trace: Trace, isHurried: boolean): Promise<boolean | undefined> {
    const foundNewcomer = await this.#parts.directory.findNewMachines(isHurried);
    trace?.take({ step: 'directory-refresh', foundNewcomer });
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

/** Whether an id without a hint was certainly minted by its client: no response reveals such an id. */
export function isClientsWithoutHint({ mintedBy, discoveries }: Protocol, hints: boolean): boolean {
  if (mintedBy === 'app') return false;
  return discoveries.every(({ from }) => hints && from !== 'body' && from !== 'sse-message');
}

/**
 * The size of each of two generations of ids. When the newer one is full, the older one is dropped. Together
 * they match the store's cache of bindings: about 15 MB for as many sessions in use.
 */
const GENERATION = 50_000;
/** A longer id takes its sender longer than us: its key is computed each time, so the cache stays small. */
const MAX_CACHED_BYTES = 512;

/**
 * Caches the keys of session ids: hashing is the costliest step of finding a known owner. Ids are
 * credentials: the cache is only in memory, where the process has them in its buffers anyway.
 */
export function createKeyCache(): (id: SessionId) => SessionKey {
  let newer = new Map<SessionId, SessionKey>();
  let older = newer;
  return (id) => {
    let key = newer.get(id);
    if (key !== undefined) return key;
    if (id.length > MAX_CACHED_BYTES) return sessionKeyOf(id);
    key = older.get(id) ?? detachedCopy(sessionKeyOf(id));
    if (newer.size === GENERATION) {
      older = newer;
      newer = new Map();
    }
    newer.set(detachedCopy(id), key);
    return key;
  };
}

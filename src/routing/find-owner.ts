/** Finds the owner of a session in this Machine's store, the owner hint or the peers. The first result wins. */
import type { KeyResponse } from '../fleet/messages.ts';
import type { PeerLookup } from '../fleet/peers.ts';
import type { FoundId } from '../protocols/request-ids.ts';
import type { Binding, MachineId, SessionId } from '../session.ts';
import type { Lookup } from '../store/store.ts';
import { wasUndelivered, type KnownOwner, type OwnerLookup } from './facts.ts';
import {
  createKeyCache,
  isClientsWithoutHint,
  ofPeer,
  OwnerSources,
  unbound,
  type FoundOwner,
  type LookupFacts,
  type LookupRequest,
  type OwnerFinderParts,
  type SessionLookup,
} from './owner-lookup.ts';
import type { Trace } from './trace.ts';

type Found = FoundOwner | undefined;

/** What Fly.io names a Machine. */
const FLY_MACHINE = /^[0-9a-f]{14}$/;

const NONE: OwnerLookup = { kind: 'none' };
const IN_FLIGHT_HERE: OwnerLookup = { kind: 'none', isInFlightHere: true };
const STORE_UNKNOWN: OwnerLookup = { kind: 'inconclusive', mayBeOurs: true };

export class OwnerFinder {
  readonly #parts: OwnerFinderParts;
  readonly #lookups: OwnerSources;
  readonly #keyOf = createKeyCache();
  readonly #sources: readonly ((lookup: SessionLookup) => Found | Promise<Found>)[] = [
    (lookup) => this.#ownStore(lookup),
    (lookup) => this.#ownerHint(lookup),
    (lookup) => this.#peers(lookup),
  ];

  constructor(parts: OwnerFinderParts) {
    this.#parts = parts;
    this.#lookups = new OwnerSources(parts);
  }

  /** Synchronous if this Machine's store knows the owner; never rejects. HOT PATH. */
  find(
    found: FoundId,
    facts: LookupFacts,
    request: LookupRequest,
    trace?: Trace,
  ): FoundOwner | Promise<FoundOwner> {
    const whole = this.#mayBeWhole(found) ? found.hintedId : undefined;
    const key = this.#keyOf(whole ?? found.id);
    const lookup = { found, facts, request, trace, key, wholeId: whole, stored: undefined };
    return whole === undefined
      ? this.#firstKnown(lookup, 0)
      : this.#asOneId(lookup).then((chosen) => this.#firstKnown(chosen, 0));
  }

  #firstKnown(lookup: SessionLookup, from: number): FoundOwner | Promise<FoundOwner> {
    for (let i = from; i < this.#sources.length; i += 1) {
      const known = this.#sources[i]?.(lookup);
      if (known instanceof Promise)
        return known.then((owner) => owner ?? this.#firstKnown(lookup, i + 1));
      if (known) return known;
    }
    return unbound(lookup, lookup.stored === 'unknown' ? STORE_UNKNOWN : NONE);
  }

  /** A client or another app may mint `user~bob`: `bob` is a hint only if a Machine has that id. */
  #mayBeWhole({ hint, protocol }: FoundId): boolean {
    const { self, directory } = this.#parts;
    if (hint === undefined || (protocol.mintedBy === 'app' && !protocol.isGuess)) return false;
    return hint !== self && directory.peer(hint) === undefined;
  }

  /** The whole id if it is bound, or if its hint names no Machine, or one that is gone and never had the session. */
  async #asOneId(lookup: SessionLookup): Promise<SessionLookup> {
    const { found, trace } = lookup;
    const { hint } = found;
    const stored = await this.#lookups.lookUp(lookup.key, trace);
    if (typeof stored !== 'string') return { ...lookup, stored };
    const key = this.#keyOf(found.id);
    const split = await this.#lookups.lookUp(key, trace);
    const isHint = hasHadOwner(split, hint) || (await this.#namesMachine(lookup));
    return isHint
      ? { ...lookup, stored: split, key, wholeId: undefined }
      : { ...lookup, stored, found: { ...found, hint: undefined } };
  }

  /** Whether a Machine has that name, running or stopped. If the directory can't be read, it may (invariant 11). */
  async #namesMachine({ found: { hint }, facts, trace }: SessionLookup): Promise<boolean> {
    const { liveness } = this.#parts;
    if (hint === undefined || liveness.isConfirmedGone(hint)) return false;
    if (liveness.listing(hint) !== 'none') return true;
    // A peer has read the directory already.
    if (facts.from === 'peer') return false;
    // It may have started since the last refresh, and have minted the id. Other names are hardly ever one.
    const isHurried = !FLY_MACHINE.test(hint);
    const foundNewcomer = await this.#lookups.findNewMachines(trace, isHurried);
    return foundNewcomer === undefined || liveness.listing(hint) !== 'none';
  }

  // 1. This Machine's store

  #ownStore(lookup: SessionLookup): Found | Promise<Found> {
    const stored = lookup.stored ?? this.#lookups.lookUp(lookup.key, lookup.trace);
    return stored instanceof Promise
      ? stored.then((result) => this.#ofStored(lookup, result))
      : this.#ofStored(lookup, stored);
  }

  #ofStored(lookup: SessionLookup, stored: Lookup): Found | Promise<Found> {
    lookup.stored = stored;
    const isWhole = lookup.wholeId !== undefined;
    if (typeof stored !== 'string') {
      const isToBeConfirmed = !isWhole && this.#isDoubtedCopy(lookup, stored);
      return isToBeConfirmed ? this.#confirmed(lookup, stored) : this.#ofBinding(lookup, stored);
    }
    const { hintedId } = lookup.found;
    return isWhole || hintedId === undefined ? undefined : this.#ofWholeId(lookup, hintedId);
  }

  /** An app may mint an id that ends like a hint, and reveal it where we add no hint. */
  async #ofWholeId(lookup: SessionLookup, wholeId: SessionId): Promise<Found> {
    const stored = await this.#lookups.lookUp(this.#keyOf(wholeId), lookup.trace);
    return typeof stored === 'string' ? undefined : this.#ofBinding({ ...lookup, wholeId }, stored);
  }

  #ofBinding(lookup: SessionLookup, binding: Binding): FoundOwner | Promise<FoundOwner> {
    const { self, onOwnPast, hints } = this.#parts;
    const { found, trace, wholeId, facts } = lookup;
    const { key, machine, origin } = binding;
    const isCopied = origin === 'copied';
    if (onOwnPast && machine !== self && !isCopied) {
      if (!trace?.isDryRun) onOwnPast(binding);
      return this.#ofBinding(lookup, { ...binding, machine: self });
    }
    // A copy does not record how its owner got the id. An id without a hint is not one to which we add hints.
    const isClientsOwn = found.hint === undefined && isClientsWithoutHint(found.protocol, hints);
    const owner: KnownOwner = {
      kind: 'owner',
      machine,
      knownBy: 'store',
      origin: isCopied && isClientsOwn ? 'adopted' : origin,
      liveness: this.#lookups.livenessOf(machine, trace),
    };
    const bound = { key, owner, binding, wholeId };
    return machine === self || !this.#mayQueryPeers(facts)
      ? bound
      : this.#unlessMoved(lookup, bound, true);
  }

  /** The Machine that the copy names has sent the request here, or a client pretends that it did. */
  #isDoubtedCopy({ found, facts, request }: SessionLookup, { machine, origin }: Binding): boolean {
    if (origin !== 'copied' || this.#parts.store.isShared) return false;
    const hasReplayed = machine === facts.replayedBy && found.protocol.mintedBy !== 'app';
    return hasReplayed || machine === request.placedBy;
  }

  /**
   * If that Machine has lost its session, the copy would separate the clients of the session, so this
   * queries it. Only its own response counts, not a missing one or those of others: its store may be
   * busy. If a client may have pretended, the session may have moved to an unresponsive Machine
   * (invariant 11).
   */
  async #confirmed(lookup: SessionLookup, copy: Binding): Promise<FoundOwner> {
    const { key, request, trace } = lookup;
    const { machine } = copy;
    const isPlacer = machine === request.placedBy;
    let reported: KeyResponse | undefined;
    const response = await this.#lookups.queryPeers(key, trace, {
      source: request.source,
      skipsCache: true,
      // It has just sent a request, so it is running.
      waitsForSlowPeers: isPlacer,
      onResponse: (peer, theirs) => {
        if (peer === machine) reported = theirs;
      },
    });
    if (response.kind === 'owner') return unbound(lookup, ofPeer(response));
    const isUnclear = response.kind === 'inconclusive';
    if (reported !== 'no' || (isUnclear && !isPlacer)) return this.#ofBinding(lookup, copy);
    if (!trace?.isDryRun) this.#parts.onDisowned(key, machine);
    return unbound(lookup, isUnclear ? { ...response, mayBeOurs: false } : NONE);
  }

  // 2. The owner hint

  #ownerHint(lookup: SessionLookup): Found | Promise<Found> {
    const { found, facts, trace } = lookup;
    const { hint: machine } = found;
    if (machine === undefined || isForwarded(facts)) return undefined;
    const isOurs = machine === this.#parts.self;
    if (isOurs && this.#isForgeable(lookup)) return undefined;
    const hinted = unbound(lookup, this.#hinted(machine, trace));
    return isOurs ? hinted : this.#unlessMoved(lookup, hinted, lookup.stored === 'absent');
  }

  /** Anyone may write this Machine's name into an id that clients mint, so the peers are queried first. */
  #isForgeable({ found, facts }: SessionLookup): boolean {
    return found.protocol.mintedBy !== 'app' && this.#mayQueryOwner(facts);
  }

  #hinted(machine: MachineId, trace: Trace): KnownOwner {
    const liveness = this.#lookups.livenessOf(machine, trace);
    return { kind: 'owner', machine, knownBy: 'hint', liveness };
  }

  // 3. The peers

  #peers(lookup: SessionLookup): Found | Promise<Found> {
    if (!this.#mayQueryOwner(lookup.facts)) return undefined;
    // The clients of one room arrive together: later requests follow the first.
    if (this.#parts.isInFlight(lookup.key)) return unbound(lookup, IN_FLIGHT_HERE);
    const { found, key, request, trace } = lookup;
    return this.#lookups
      .queryOwner(key, trace, found.protocol, request.source)
      .then((response) => this.#ofPeers(lookup, response));
  }

  #ofPeers(lookup: SessionLookup, response: PeerLookup): Found {
    if (response.kind === 'owner') return unbound(lookup, ofPeer(response));
    const announced = this.#announced(lookup);
    if (announced) return unbound(lookup, announced);
    const isUncontested = response.kind === 'none';
    const { hint } = lookup.found;
    if (hint !== undefined)
      return unbound(lookup, { ...this.#hinted(hint, lookup.trace), isUncontested });
    if (isUncontested) return undefined;
    const { isShed } = response;
    const mayBeOurs = lookup.stored === 'unknown';
    return unbound(lookup, { kind: 'inconclusive', mayBeOurs, ...(isShed && { isShed }) });
  }

  /** During the query, a peer that did not own the key before may have announced it. */
  #announced({ key, trace }: SessionLookup): KnownOwner | undefined {
    const stored = this.#parts.store.lookup(key);
    if (stored instanceof Promise || typeof stored === 'string') return undefined;
    const { machine, origin } = stored;
    const liveness = this.#lookups.livenessOf(machine, trace);
    return { kind: 'owner', machine, knownBy: 'store', origin, liveness };
  }

  #mayQueryOwner(facts: LookupFacts): boolean {
    return !this.#parts.store.isShared && this.#mayQueryPeers(facts);
  }

  /** A replay of an app is served here in any case, so its owner is not needed. */
  #mayQueryPeers({ from, isPlaced, unmarkedFrom }: LookupFacts): boolean {
    if (from === 'peer') return isPlaced;
    return unmarkedFrom === undefined || this.#parts.replays === 'cacheable';
  }

  /**
   * If the owner is or was unreachable, this queries the peers, as the session may have moved. Without a
   * response of the peers or of this store, the owner stays (invariant 11).
   */
  #unlessMoved(
    lookup: SessionLookup,
    found: FoundOwner & { readonly owner: KnownOwner },
    isStoreCertain: boolean,
  ): FoundOwner | Promise<FoundOwner> {
    const { machine, liveness } = found.owner;
    const isInDoubt =
      liveness === 'gone' || liveness === 'unresponsive' || wasUndelivered(lookup.facts, machine);
    return isInDoubt ? this.#queryAgain(lookup, found, isStoreCertain) : found;
  }

  async #queryAgain(
    { request, trace }: SessionLookup,
    found: FoundOwner & { readonly owner: KnownOwner },
    isStoreCertain: boolean,
  ): Promise<FoundOwner> {
    const { store, liveness } = this.#parts;
    const { machine } = found.owner;
    // It may have started since the last refresh, with sessions that this Machine does not know.
    if (liveness.listing(machine) === 'stopped') await this.#lookups.findNewMachines(trace, false);
    const options = { source: request.source, hasKnownOwner: true };
    const response = store.isShared
      ? undefined
      : await this.#lookups.queryPeers(found.key, trace, options);
    if (response?.kind === 'owner') return { ...found, owner: ofPeer(response) };
    const isUncontested = isStoreCertain && response?.kind !== 'inconclusive';
    const current = this.#lookups.livenessOf(machine, trace);
    return { ...found, owner: { ...found.owner, liveness: current, isUncontested } };
  }
}

/** For a forward of a peer only local knowledge counts: no peer is queried. */
function isForwarded({ from, isPlaced }: LookupFacts): boolean {
  return from === 'peer' && !isPlaced;
}

/** The Machine owns the session, or the session has moved from an earlier owner: the suffix is then a hint. */
function hasHadOwner(stored: Lookup, machine: MachineId | undefined): boolean {
  if (typeof stored === 'string') return false;
  return stored.machine === machine || stored.generation > 1;
}

/** Who owns a session: this Machine's store, then the hint in the id, then the peers. */
import {
  wasUndelivered,
  type KnownOwner,
  type MachineState,
  type Owner,
  type RoutingFacts,
} from './decide.ts';
import type { FoundId } from '../protocols/request-ids.ts';
import { createKeyCache } from './key-cache.ts';
import type { Protocol } from '../protocols/protocol.ts';
import { type Binding, type MachineId, type SessionId, type SessionKey } from '../session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Source } from '../fleet/rate-limits.ts';
import type { Liveness } from '../fleet/liveness.ts';
import type { KeyResponse } from '../fleet/messages.ts';
import type { Peers, PeerLookup } from '../fleet/peers.ts';
import type { Lookup, SessionStore } from '../store/store.ts';

export interface Ownership {
  readonly key: SessionKey;
  readonly owner: Owner;
  /** This Machine's own row, if it has one. */
  readonly binding: Binding | undefined;
  /** Set if what looked like a hint belongs to the id: the app gets it as it is. */
  readonly wholeId: SessionId | undefined;
}

/** How the request came, as far as it bears on whom to ask. */
export type Pass = Pick<
  RoutingFacts,
  'from' | 'isPlaced' | 'replayedBy' | 'unmarkedFrom' | 'cameBackByFallback' | 'undeliveredTo'
>;

/** Whose request it is. */
export interface Asker {
  /** For what it may cost. */
  readonly source: Source | undefined;
  /** The peer that knows nobody who has the session, not even itself. */
  readonly placedBy: MachineId | undefined;
}

export interface OwnerFinder {
  /** Synchronous where this Machine's store knows; never rejects. */
  find(found: FoundId, pass: Pass, asker: Asker): Ownership | Promise<Ownership>;
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
  /** Whether a request of that session is being served here which its app has not accepted yet. */
  readonly isPending: (key: SessionKey) => boolean;
  /** Told that the Machine which a copy names does not have the session. */
  readonly onDisowned: (key: SessionKey, machine: MachineId) => void;
  /**
   * Set where the configuration knows of no other Machine: a binding that was made here and names one
   * is of this Machine's own past, and is to name it again.
   */
  readonly onOwnPast?: ((binding: Binding) => void) | undefined;
}

const NONE: Owner = { kind: 'none' };
const BEGUN_HERE: Owner = { kind: 'none', isInFlightHere: true };

export function createOwnerFinder(parts: OwnerFinderParts): OwnerFinder {
  const { self, store, directory, liveness, peers, isPending } = parts;
  const keyOf = createKeyCache();

  function find(found: FoundId, pass: Pass, asker: Asker): Ownership | Promise<Ownership> {
    const wholeId = mayBeWhole(found) ? found.hintedId : undefined;
    if (wholeId !== undefined) return findWholeFirst(found, wholeId, pass, asker);
    const key = keyOf(found.id);
    const looked = store.lookup(key);
    if (looked instanceof Promise)
      return looked.then((l) => afterLookup(found, key, l, pass, asker));
    return afterLookup(found, key, looked, pass, asker);
  }

  /** A client may mint `user~bob`: that is a hint only if some Machine is called so. */
  function mayBeWhole({ hint, protocol }: FoundId): boolean {
    if (hint === undefined || hint === self || protocol.mintedBy === 'app') return false;
    return directory.peer(hint) === undefined;
  }

  async function findWholeFirst(
    found: FoundId,
    wholeId: SessionId,
    pass: Pass,
    asker: Asker,
  ): Promise<Ownership> {
    const key = keyOf(wholeId);
    const whole = await store.lookup(key);
    if (typeof whole !== 'string') return ofBinding(found, whole, pass, asker, wholeId);
    const splitKey = keyOf(found.id);
    const split = await store.lookup(splitKey);
    const isHintOfGone = found.hint !== undefined && liveness.isConfirmedGone(found.hint);
    if (isHintOfGone && !hasHadOwner(split, found.hint)) {
      const unhinted = { ...found, id: wholeId, hint: undefined };
      const owner = await withoutStore(unhinted, key, whole, pass, asker);
      return { key, owner, binding: undefined, wholeId };
    }
    return afterLookup(found, splitKey, split, pass, asker);
  }

  function afterLookup(
    found: FoundId,
    key: SessionKey,
    looked: Lookup,
    pass: Pass,
    asker: Asker,
  ): Ownership | Promise<Ownership> {
    if (typeof looked === 'string') return afterMiss(found, key, looked, pass, asker);
    const isDoubtedByReplay =
      looked.machine === pass.replayedBy && found.protocol.mintedBy !== 'app';
    const isInDoubt = isDoubtedByReplay || looked.machine === asker.placedBy;
    if (isInDoubt && looked.origin === 'copied' && !store.isShared)
      return unlessDisowned(found, looked, pass, asker);
    return ofBinding(found, looked, pass, asker, undefined);
  }

  /**
   * The very Machine that the copy names has sent the request here, or seems to, as a client may
   * pretend. If it has lost what it had, the copy would keep its clients away from each other: it is
   * asked. Its word counts, and not its silence or what others say: its store may just be busy. Where
   * a client may pretend it, the session may have moved on to one that is silent (invariant 11).
   */
  async function unlessDisowned(
    found: FoundId,
    copy: Binding,
    pass: Pass,
    asker: Asker,
  ): Promise<Ownership> {
    const { key, machine } = copy;
    let said: KeyResponse | undefined;
    const answer = await peers.ask(key, {
      source: asker.source,
      skipsCache: true,
      // It has just shown that it is there.
      waitsForSlowPeers: machine === asker.placedBy,
      onResponse: (peer, theirs) => {
        if (peer === machine) said = theirs;
      },
    });
    const unbound = { key, binding: undefined, wholeId: undefined };
    if (answer.kind === 'owner') return { ...unbound, owner: ofPeer(answer) };
    const isUnclear = answer.kind === 'inconclusive';
    const isDisowned = said === 'no' && (!isUnclear || machine === asker.placedBy);
    if (!isDisowned) return ofBinding(found, copy, pass, asker, undefined);
    parts.onDisowned(key, machine);
    return { ...unbound, owner: isUnclear ? { ...answer, mayBeOurs: false } : NONE };
  }

  function ofBinding(
    { protocol, hint }: Pick<FoundId, 'protocol' | 'hint'>,
    binding: Binding,
    pass: Pass,
    asker: Asker,
    wholeId: SessionId | undefined,
  ): Ownership | Promise<Ownership> {
    if (isOfOwnPast(binding)) {
      parts.onOwnPast?.(binding);
      return ofBinding({ protocol, hint }, { ...binding, machine: self }, pass, asker, wholeId);
    }
    const { key, machine } = binding;
    // A copy does not say how the id came to its owner. What has no hint is none of those that get one.
    const isClientsOwn = hint === undefined && isTheClientsWithoutHint(protocol, parts.hints);
    const isCopied = binding.origin === 'copied';
    const origin = isCopied && isClientsOwn ? 'adopted' : binding.origin;
    const isOurs = machine === self;
    const presence = isOurs ? 'running' : liveness.of(machine);
    const owner: KnownOwner = {
      kind: 'machine',
      machine,
      knownBy: 'store',
      origin,
      liveness: presence,
    };
    const ownership = { key, owner, binding, wholeId };
    return isOurs || !asksPeers(pass) ? ownership : orMovedOn(ownership, pass, asker, true);
  }

  /** A copy was told by another Machine, when there was one. */
  function isOfOwnPast({ machine, origin }: Binding): boolean {
    return parts.onOwnPast !== undefined && machine !== self && origin !== 'copied';
  }

  /** An app may mint an id that ends as a hint does, and reveal it where no hint is added. */
  async function afterMiss(
    found: FoundId,
    key: SessionKey,
    looked: 'absent' | 'unknown',
    pass: Pass,
    asker: Asker,
  ): Promise<Ownership> {
    const wholeId = found.hintedId;
    if (wholeId !== undefined) {
      const whole = await store.lookup(keyOf(wholeId));
      if (typeof whole !== 'string') return ofBinding(found, whole, pass, asker, wholeId);
    }
    const owner = await withoutStore(found, key, looked, pass, asker);
    const ownership = { key, binding: undefined, wholeId: undefined };
    const isElsewhere = owner.kind === 'machine' && owner.machine !== self;
    return isElsewhere && owner.knownBy === 'hint'
      ? orMovedOn({ ...ownership, owner }, pass, asker, looked === 'absent')
      : { ...ownership, owner };
  }

  async function withoutStore(
    found: FoundId,
    key: SessionKey,
    looked: 'absent' | 'unknown',
    pass: Pass,
    asker: Asker,
  ): Promise<Owner> {
    const isStoreSilent = looked === 'unknown';
    const silent: Owner = isStoreSilent ? { kind: 'inconclusive', mayBeOurs: true } : NONE;
    if (pass.from === 'peer' && !pass.isPlaced) return silent;
    const hinted = ofHint(found);
    // Anyone may write our name into an id that clients mint: another owner's word comes first.
    const isForgeable = found.hint === self && found.protocol.mintedBy !== 'app';
    if (hinted && !isForgeable) return hinted;
    if (store.isShared || !asksPeers(pass)) return hinted ?? silent;
    // Clients of one room arrive together: whom the first has brought here the others follow.
    if (isPending(key)) return BEGUN_HERE;
    const answer = await ask(found, key, asker);
    if (answer.kind === 'owner') return ofPeer(answer);
    const announced = ofAnnouncement(key);
    if (announced) return announced;
    if (hinted) return { ...hinted, isUncontested: answer.kind === 'none' };
    if (answer.kind === 'none') return silent;
    const { isShed } = answer;
    return { kind: 'inconclusive', mayBeOurs: isStoreSilent, ...(isShed && { isShed }) };
  }

  /** A peer that had said no, or did not answer, may have announced the key while others were asked. */
  function ofAnnouncement(key: SessionKey): KnownOwner | undefined {
    const looked = store.lookup(key);
    if (looked instanceof Promise || typeof looked === 'string') return undefined;
    const { machine, origin } = looked;
    const presence = machine === self ? 'running' : liveness.of(machine);
    return { kind: 'machine', machine, knownBy: 'store', origin, liveness: presence };
  }

  /**
   * The app here can only say "not found" to an id that another Machine's app has minted, so late
   * answers are waited for, and a failure is asked once more: a connection that had just been lost
   * may have cost the first question.
   */
  async function ask({ protocol }: FoundId, key: SessionKey, asker: Asker): Promise<PeerLookup> {
    const { source } = asker;
    const mayBeOfApp = protocol.mintedBy !== 'client';
    const isOfApp = protocol.mintedBy === 'app';
    const answer = await peers.ask(key, { source, waitsForSlowPeers: mayBeOfApp });
    if (answer.kind === 'inconclusive' && isOfApp && !answer.isShed)
      return peers.ask(key, { source });
    if (answer.kind !== 'none' || !mayBeOfApp) return answer;
    // A Machine that has just woken is on nobody's list for an interval, and may be the owner.
    const hasNewcomer = await directory.findNewMachines(!isOfApp);
    if (hasNewcomer === undefined) return { kind: 'inconclusive' };
    return hasNewcomer ? peers.ask(key, { source }) : answer;
  }

  /** What an app has replayed is served here, whoever owns its session: nobody needs to know. */
  function asksPeers({ from, isPlaced, unmarkedFrom }: Pass): boolean {
    if (from === 'peer') return isPlaced;
    return unmarkedFrom === undefined || parts.replays === 'cacheable';
  }

  function ofHint({ hint: machine }: FoundId): KnownOwner | undefined {
    if (machine === undefined) return undefined;
    const presence = machine === self ? 'running' : liveness.of(machine);
    return { kind: 'machine', machine, knownBy: 'hint', liveness: presence };
  }

  function ofPeer({ machine }: { readonly machine: MachineId }): Owner {
    return { kind: 'machine', machine, knownBy: 'peers', liveness: 'running' };
  }

  /**
   * Where the owner could not be had, or can't be: the peers are asked, as the session may have
   * moved. Silence leaves the binding as it is (invariant 11), be it theirs or that of our own store.
   */
  function orMovedOn(
    ownership: KnownOwnership,
    pass: Pass,
    asker: Asker,
    hasStoreSaid: boolean,
  ): Ownership | Promise<Ownership> {
    const { machine, liveness: presence } = ownership.owner;
    const isInDoubt =
      presence === 'gone' || presence === 'unresponsive' || wasUndelivered(pass, machine);
    return isInDoubt ? askedAgain(ownership, hasStoreSaid, asker) : ownership;
  }

  async function askedAgain(
    ownership: KnownOwnership,
    hasStoreSaid: boolean,
    asker: Asker,
  ): Promise<Ownership> {
    const { owner, key } = ownership;
    const { machine } = owner;
    // It may have been woken since the last reading, and have sessions that nobody here knows of.
    if (liveness.listing(machine) === 'stopped') await directory.findNewMachines();
    const asking = { source: asker.source, hasKnownOwner: true };
    const answer = store.isShared ? undefined : await peers.ask(key, asking);
    if (answer?.kind === 'owner') return { ...ownership, owner: ofPeer(answer) };
    const isUncontested = hasStoreSaid && answer?.kind !== 'inconclusive';
    return { ...ownership, owner: { ...owner, liveness: liveness.of(machine), isUncontested } };
  }

  return { find };
}

type KnownOwnership = Ownership & { readonly owner: KnownOwner };

/** The session is that Machine's, or has moved since it was somebody's: then what names it is a hint. */
function hasHadOwner(looked: Lookup, machine: MachineId | undefined): boolean {
  if (typeof looked === 'string') return false;
  return looked.machine === machine || looked.generation > 1;
}

/** Whether an id without a hint was minted by its client for certain: no answer teaches one. */
function isTheClientsWithoutHint(
  { mintedBy, discoveries: lessons }: Protocol,
  hints: boolean,
): boolean {
  if (mintedBy === 'app') return false;
  return lessons.every(({ from }) => hints && from !== 'body' && from !== 'sse-message');
}

/** Who owns a session: this Machine's store, then the hint in the id, then the peers. */
import {
  wasUndelivered,
  type KnownOwner,
  type Owner,
  type RoutingFacts,
} from '../affinity/decide.ts';
import type { FoundId } from '../affinity/extract.ts';
import { createKeyCache } from '../affinity/key-cache.ts';
import type { Protocol } from '../affinity/protocol.ts';
import {
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../affinity/session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Peers, PeersAnswer } from '../fleet/peers.ts';
import type { Lookup, SessionStore } from '../store/store.ts';
import type { PresenceOf } from './presence.ts';

export interface Ownership {
  readonly key: SessionKey;
  readonly owner: Owner;
  /** This Machine's own row, if it has one. */
  readonly binding: Binding | undefined;
  /** Set if what looked like a hint belongs to the id: the app gets it as it is. */
  readonly wholeId: SessionId | undefined;
}

/** How the request came, as far as it bears on whom to ask. */
export type Pass = Pick<RoutingFacts, 'from' | 'cameBackByFallback' | 'undeliveredTo'>;

export interface OwnerFinder {
  /** Synchronous where this Machine's store knows; never rejects. */
  find(found: FoundId, pass: Pass): Ownership | Promise<Ownership>;
}

export interface OwnerFinderParts {
  readonly self: MachineId;
  /** Whether ids that the app mints go out with hints. */
  readonly hints: boolean;
  readonly store: Pick<SessionStore, 'lookup' | 'isShared'>;
  readonly directory: Pick<Directory, 'isConfirmedGone' | 'listing' | 'lookAgain' | 'peer'>;
  readonly presenceOf: PresenceOf;
  readonly peers: Pick<Peers, 'ask'>;
  /** Told what a peer said it owns, to be kept as a copy. */
  readonly onOwnerTold: (key: SessionKey, owner: PeerOwner) => void;
  /**
   * Set where the configuration knows of no other Machine: a binding that was made here and names one
   * is of this Machine's own past, and is to name it again.
   */
  readonly onOwnPast?: ((binding: Binding) => void) | undefined;
}

export interface PeerOwner {
  readonly machine: MachineId;
  readonly generation: number;
  readonly ttlMs: number;
}

const NONE: Owner = { kind: 'none' };

export function createOwnerFinder(parts: OwnerFinderParts): OwnerFinder {
  const { self, store, directory, presenceOf, peers, onOwnerTold } = parts;
  const keyOf = createKeyCache();

  function find(found: FoundId, pass: Pass): Ownership | Promise<Ownership> {
    const wholeId = mayBeWhole(found) ? found.hintedId : undefined;
    if (wholeId !== undefined) return findWholeFirst(found, wholeId, pass);
    const key = keyOf(found.id);
    const looked = store.lookup(key);
    if (looked instanceof Promise) return looked.then((l) => afterLookup(found, key, l, pass));
    return afterLookup(found, key, looked, pass);
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
  ): Promise<Ownership> {
    const key = keyOf(wholeId);
    const whole = await store.lookup(key);
    if (typeof whole !== 'string') return ofBinding(found, whole, pass, wholeId);
    const splitKey = keyOf(found.id);
    const split = await store.lookup(splitKey);
    const isHintOfGone = found.hint !== undefined && directory.isConfirmedGone(found.hint);
    if (isHintOfGone && !hasHadOwner(split, found.hint)) {
      const unhinted = { ...found, id: wholeId, hint: undefined };
      const owner = await withoutStore(unhinted, key, whole, pass);
      return { key, owner, binding: undefined, wholeId };
    }
    return afterLookup(found, splitKey, split, pass);
  }

  function afterLookup(
    found: FoundId,
    key: SessionKey,
    looked: Lookup,
    pass: Pass,
  ): Ownership | Promise<Ownership> {
    if (typeof looked === 'string') return afterMiss(found, key, looked, pass);
    return ofBinding(found, looked, pass, undefined);
  }

  function ofBinding(
    { protocol, hint }: Pick<FoundId, 'protocol' | 'hint'>,
    binding: Binding,
    pass: Pass,
    wholeId: SessionId | undefined,
  ): Ownership | Promise<Ownership> {
    if (isOfOwnPast(binding)) {
      parts.onOwnPast?.(binding);
      return ofBinding({ protocol, hint }, { ...binding, machine: self }, pass, wholeId);
    }
    const { key, machine } = binding;
    // A copy does not say how the id came to its owner. What has no hint is none of those that get one.
    const isClientsOwn = hint === undefined && isTheClientsWithoutHint(protocol, parts.hints);
    const isCopied = binding.origin === 'copied';
    const origin = isCopied && isClientsOwn ? 'adopted' : binding.origin;
    const isOurs = machine === self;
    const presence = isOurs ? 'running' : presenceOf(machine);
    const owner: KnownOwner = { kind: 'machine', machine, knownBy: 'store', origin, presence };
    const ownership = { key, owner, binding, wholeId };
    return isOurs || pass.from === 'peer' ? ownership : orMovedOn(ownership, pass, true);
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
  ): Promise<Ownership> {
    const wholeId = found.hintedId;
    if (wholeId !== undefined) {
      const whole = await store.lookup(keyOf(wholeId));
      if (typeof whole !== 'string') return ofBinding(found, whole, pass, wholeId);
    }
    const owner = await withoutStore(found, key, looked, pass);
    const ownership = { key, binding: undefined, wholeId: undefined };
    const isElsewhere = owner.kind === 'machine' && owner.machine !== self;
    return isElsewhere && owner.knownBy === 'hint'
      ? orMovedOn({ ...ownership, owner }, pass, looked === 'absent')
      : { ...ownership, owner };
  }

  async function withoutStore(
    found: FoundId,
    key: SessionKey,
    looked: 'absent' | 'unknown',
    pass: Pass,
  ): Promise<Owner> {
    const isStoreSilent = looked === 'unknown';
    const silent: Owner = isStoreSilent ? { kind: 'inconclusive', mayBeOurs: true } : NONE;
    if (pass.from === 'peer') return silent;
    const hinted = ofHint(found);
    // Anyone may write our name into an id that clients mint: another owner's word comes first.
    const isForgeable = found.hint === self && found.protocol.mintedBy !== 'app';
    if (hinted && !isForgeable) return hinted;
    if (store.isShared) return hinted ?? silent;
    const answer = await ask(found, key);
    if (answer.kind === 'owner') return ofPeer(key, answer);
    if (hinted) return { ...hinted, isUncontested: answer.kind === 'none' };
    return answer.kind === 'none' ? silent : { kind: 'inconclusive', mayBeOurs: isStoreSilent };
  }

  /**
   * The app here can only say "not found" to an id that another Machine's app has minted, so silence
   * is asked once more: a connection that had to be made first may have cost the first question.
   */
  async function ask({ protocol }: FoundId, key: SessionKey): Promise<PeersAnswer> {
    const answer = await peers.ask(key);
    if (protocol.mintedBy !== 'app') return answer;
    if (answer.kind === 'inconclusive') return peers.ask(key);
    if (answer.kind !== 'none') return answer;
    // A Machine that has just woken is on nobody's list for an interval, and may be the owner.
    const hasNewcomer = await directory.lookAgain();
    if (hasNewcomer === undefined) return { kind: 'inconclusive' };
    return hasNewcomer ? peers.ask(key) : answer;
  }

  function ofHint({ hint: machine }: FoundId): KnownOwner | undefined {
    if (machine === undefined) return undefined;
    const presence = machine === self ? 'running' : presenceOf(machine);
    return { kind: 'machine', machine, knownBy: 'hint', presence };
  }

  function ofPeer(key: SessionKey, answer: PeerOwner): Owner {
    onOwnerTold(key, answer);
    return { kind: 'machine', machine: answer.machine, knownBy: 'peers', presence: 'running' };
  }

  /**
   * Where the owner could not be had, or can't be: the peers are asked, as the session may have
   * moved. Silence leaves the binding as it is (invariant 11), be it theirs or that of our own store.
   */
  function orMovedOn(
    ownership: KnownOwnership,
    pass: Pass,
    hasStoreSaid: boolean,
  ): Ownership | Promise<Ownership> {
    const { machine, presence } = ownership.owner;
    const isInDoubt = presence === 'gone' || presence === 'silent' || wasUndelivered(pass, machine);
    return isInDoubt ? askedAgain(ownership, hasStoreSaid) : ownership;
  }

  async function askedAgain(ownership: KnownOwnership, hasStoreSaid: boolean): Promise<Ownership> {
    const { owner, key } = ownership;
    const { machine } = owner;
    // It may have been woken since the last reading, and have sessions that nobody here knows of.
    if (directory.listing(machine) === 'stopped') await directory.lookAgain();
    const answer = store.isShared ? undefined : await peers.ask(key);
    if (answer?.kind === 'owner') return { ...ownership, owner: ofPeer(key, answer) };
    const isUncontested = hasStoreSaid && answer?.kind !== 'inconclusive';
    return { ...ownership, owner: { ...owner, presence: presenceOf(machine), isUncontested } };
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
function isTheClientsWithoutHint({ mintedBy, lessons }: Protocol, hints: boolean): boolean {
  if (mintedBy === 'app') return false;
  return lessons.every(({ from }) => hints && from !== 'body' && from !== 'sse-message');
}

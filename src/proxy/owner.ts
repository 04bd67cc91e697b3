/** Who owns a session: this Machine's store, then the hint in the id, then the peers. */
import type { Owner } from '../affinity/decide.ts';
import type { FoundId } from '../affinity/extract.ts';
import {
  sessionKeyOf,
  type Binding,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../affinity/session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Peers, PeersAnswer } from '../fleet/peers.ts';
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
export interface Pass {
  readonly from: 'edge' | 'peer';
  readonly cameBackByFallback: boolean;
}

export interface OwnerFinder {
  /** Synchronous where this Machine's store knows; never rejects. */
  find(found: FoundId, pass: Pass): Ownership | Promise<Ownership>;
}

export interface OwnerFinderParts {
  readonly self: MachineId;
  readonly store: SessionStore;
  readonly directory: Pick<Directory, 'isConfirmedGone' | 'lookAgain' | 'peer'>;
  readonly peers: Pick<Peers, 'ask'>;
  /** Told what a peer said it owns, to be kept as a copy. */
  readonly onOwnerTold: (key: SessionKey, owner: PeerOwner) => void;
}

export interface PeerOwner {
  readonly machine: MachineId;
  readonly generation: number;
  readonly ttlMs: number;
}

const NONE: Owner = { kind: 'none' };

export function createOwnerFinder(parts: OwnerFinderParts): OwnerFinder {
  const { self, store, directory, peers, onOwnerTold } = parts;

  function find(found: FoundId, pass: Pass): Ownership | Promise<Ownership> {
    const wholeId = mayBeWhole(found) ? found.hintedId : undefined;
    if (wholeId !== undefined) return findWholeFirst(found, wholeId, pass);
    const key = sessionKeyOf(found.id);
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
    const key = sessionKeyOf(wholeId);
    const whole = await store.lookup(key);
    if (typeof whole !== 'string') return ofBinding(whole, pass, wholeId);
    const isHintOfGone = found.hint !== undefined && directory.isConfirmedGone(found.hint);
    if (isHintOfGone) {
      const unhinted = { ...found, id: wholeId, hint: undefined };
      const owner = await withoutStore(unhinted, key, whole, pass);
      return { key, owner, binding: undefined, wholeId };
    }
    const splitKey = sessionKeyOf(found.id);
    return afterLookup(found, splitKey, await store.lookup(splitKey), pass);
  }

  function afterLookup(
    found: FoundId,
    key: SessionKey,
    looked: Lookup,
    pass: Pass,
  ): Ownership | Promise<Ownership> {
    if (typeof looked === 'string') return afterMiss(found, key, looked, pass);
    return ofBinding(looked, pass, undefined);
  }

  function ofBinding(
    binding: Binding,
    pass: Pass,
    wholeId: SessionId | undefined,
  ): Ownership | Promise<Ownership> {
    const { key, machine, origin } = binding;
    const owner: Owner = {
      kind: 'machine',
      machine,
      knownBy: 'store',
      origin,
      isConfirmedGone: false,
    };
    const ownership: Ownership = { key, owner, binding, wholeId };
    return machine === self || pass.from === 'peer' ? ownership : orMovedOn(ownership, pass, true);
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
      const whole = await store.lookup(sessionKeyOf(wholeId));
      if (typeof whole !== 'string') return ofBinding(whole, pass, wholeId);
    }
    const owner = await withoutStore(found, key, looked, pass);
    const ownership: Ownership = { key, owner, binding: undefined, wholeId: undefined };
    const isElsewhere = owner.kind === 'machine' && owner.machine !== self;
    const isOfHint = isElsewhere && owner.knownBy === 'hint';
    return isOfHint ? orMovedOn(ownership, pass, looked === 'absent') : ownership;
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
    // A Machine that has just woken is on nobody's list for an interval, and may be the owner.
    const isNewcomer = answer.kind === 'none' && (await directory.lookAgain());
    return isNewcomer ? peers.ask(key) : answer;
  }

  function ofHint(found: FoundId): (Owner & { kind: 'machine' }) | undefined {
    if (found.hint === undefined) return undefined;
    return { kind: 'machine', machine: found.hint, knownBy: 'hint', isConfirmedGone: false };
  }

  function ofPeer(key: SessionKey, answer: PeerOwner): Owner {
    onOwnerTold(key, answer);
    return { kind: 'machine', machine: answer.machine, knownBy: 'peers', isConfirmedGone: false };
  }

  /**
   * A request that the edge could not deliver to its owner came back: the peers are asked again,
   * as the session may have moved. Silence leaves the binding as it is (invariant 11), be it theirs
   * or that of our own store.
   */
  function orMovedOn(
    ownership: Ownership,
    pass: Pass,
    hasStoreSaid: boolean,
  ): Ownership | Promise<Ownership> {
    const { owner, key } = ownership;
    if (!pass.cameBackByFallback || owner.kind !== 'machine') return ownership;
    const gone: Owner = { ...owner, isConfirmedGone: directory.isConfirmedGone(owner.machine) };
    if (store.isShared) return { ...ownership, owner: { ...gone, isUncontested: hasStoreSaid } };
    return peers.ask(key).then((answer) => {
      if (answer.kind === 'owner') return { ...ownership, owner: ofPeer(key, answer) };
      const isUncontested = hasStoreSaid && answer.kind === 'none';
      return { ...ownership, owner: { ...gone, isUncontested } };
    });
  }

  return { find };
}

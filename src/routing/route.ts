/** Decides where a request goes: facts -> owner -> decision. Carries out nothing. */
import type { Directory } from '../fleet/directory.ts';
import type { Liveness, LivenessState } from '../fleet/liveness.ts';
import type { RequestHead } from '../protocols/heads.ts';
import type { ReadRequestIds, RequestIds } from '../protocols/request-ids.ts';
import type { Binding, MachineId, SessionId, SessionKey } from '../session.ts';
import { decide } from './decide.ts';
import type { Decision, NotAccepting } from './decision.ts';
import {
  decideLostClaim,
  decideUnreachedPlace,
  EARLY_DECISIONS,
} from './decisions-without-table.ts';
import {
  factsOf,
  isReplayUsedUp,
  type ArrivedRequest,
  type FactsParts,
  type KnownOwner,
  type MachineState,
  type OwnerLookup,
  type RoutingFacts,
} from './facts.ts';
import type { OwnerFinder } from './find-owner.ts';
import type { FoundOwner } from './owner-lookup.ts';
import type { Place } from './placement.ts';
import { sessionStep, type Trace, type Tracer } from './trace.ts';

/** Where a request goes and why, and what routing found out about its session. */
export interface Routed {
  readonly decision: Decision;
  readonly ids: RequestIds;
  readonly key: SessionKey | undefined;
  /** The owner of the session, if known. */
  readonly owner: MachineId | undefined;
  readonly binding: Binding | undefined;
  /** Set if the apparent hint is part of the id: the app then receives the whole id. */
  readonly wholeId: SessionId | undefined;
  /** Whether the edge may still replay the request. */
  readonly mayReplay: boolean;
}

export interface RouteParts {
  readonly self: MachineId;
  readonly readIds: ReadRequestIds;
  readonly owners: Pick<OwnerFinder, 'find'>;
  /** The Machines that the affinity cookies of a request name; undefined without such cookies. */
  readonly namedByCookie: ((head: RequestHead) => readonly MachineId[]) | undefined;
  readonly liveness: Pick<Liveness, 'of' | 'listing' | 'peer' | 'versionOf' | 'isFleetProbed'>;
  readonly place: Place;
  readonly directory: Pick<Directory, 'others' | 'findNewMachines'>;
  /** Why this Machine accepts no new sessions at the moment; undefined if it does. */
  readonly notAccepting: () => NotAccepting | undefined;
  readonly policy: Pick<MachineState, 'ownerGone' | 'unknownSession' | 'replays'>;
  readonly replayMaxBodyBytes: number;
}

/** What is known of the owner. Without a session id, the Machine that the cookie names. */
type Known = Pick<FoundOwner, 'owner'> & Partial<FoundOwner>;

const NO_ID = { kind: 'none' } as const;
const NO_OWNER: Known = { owner: { kind: 'none' } };
/** A failed owner lookup proves nothing (invariant 11). */
const UNCERTAIN: Known = { owner: { kind: 'inconclusive', mayBeOurs: true } };

type FoundIds = RequestIds & { readonly kind: 'found' };
type Rank = (known: Known) => boolean;

/**
 * What is known of several values of one cookie, the surest first. A hint may be of a session that has ended. If
 * nothing is certain, that counts before "no owner": a session may be alive (invariant 11).
 */
const RANKS: readonly Rank[] = [
  ({ owner }) => isKnown(owner, ['store', 'peers']) && owner.liveness !== 'gone',
  ({ owner }) => isKnown(owner, ['hint']) && owner.liveness !== 'gone',
  ({ owner }) => owner.kind === 'inconclusive',
  ({ owner }) => owner.kind === 'owner',
];

function isKnown(owner: OwnerLookup, by: readonly KnownOwner['knownBy'][]): owner is KnownOwner {
  return owner.kind === 'owner' && by.includes(owner.knownBy);
}

export class Router {
  readonly #parts: RouteParts;
  readonly #factsParts: FactsParts;
  /** Its fields are read lazily: most decisions need only a few. */
  readonly #state: MachineState;

  constructor(parts: RouteParts) {
    const { self, policy, liveness, replayMaxBodyBytes } = parts;
    this.#parts = parts;
    this.#factsParts = { self, liveness, replays: policy.replays, replayMaxBodyBytes };
    this.#state = {
      ...policy,
      self,
      get notAccepting() {
        return parts.notAccepting();
      },
      get hasOtherMachines() {
        return parts.directory.others().length > 0;
      },
      placedOn: undefined,
      isFleetProbed: true,
    };
  }

  /** Synchronous if this Machine's store knows the owner; never rejects. HOT PATH. */
  route(request: ArrivedRequest, trace?: Trace): Routed | Promise<Routed> {
    return this.#routeIds(request, this.#parts.readIds(request.head), trace);
  }

  #routeIds(request: ArrivedRequest, ids: RequestIds, trace: Trace): Routed | Promise<Routed> {
    trace?.take(sessionStep(request.head, ids));
    if (ids.kind === 'conflict') return this.decideEarly('conflicting-ids', trace);
    if (ids.kind === 'found' && ids.others) return this.#routeBestOwned(request, ids, trace);
    return this.#routeWith(request, ids, trace);
  }

  #routeWith(
    request: ArrivedRequest,
    ids: RequestIds & { readonly kind: 'none' | 'found' },
    trace: Trace,
  ): Routed | Promise<Routed> {
    const facts = factsOf(request, ids, this.#factsParts);
    const isFound = ids.kind === 'found';
    const otherwise = isFound ? ids.otherwise : undefined;
    const known: Known | Promise<Known> = isFound
      ? this.#parts.owners.find(ids, facts, request, trace)
      : this.#namedByCookie(request);
    const onKnown = (found: Known): Routed | Promise<Routed> =>
      otherwise && found.owner.kind !== 'owner'
        ? withWholeId(this.#routeIds(request, otherwise, trace), found.wholeId)
        : this.#decide(ids, facts, found, trace);
    if (!(known instanceof Promise)) return onKnown(known);
    return known.then(onKnown, () => onKnown(UNCERTAIN));
  }

  /** Of several values of one cookie, the session is the one whose owner is known best; with none, there is no id. */
  async #routeBestOwned(
    request: ArrivedRequest,
    { others = [], ...first }: FoundIds,
    trace: Trace,
  ): Promise<Routed> {
    const candidates = await Promise.all(
      [first, ...others].map(async (value) => {
        const ids = { ...value, kind: 'found' } as const;
        const facts = factsOf(request, ids, this.#factsParts);
        const known = await this.#findOwner(request, ids, facts, trace);
        return { ids, facts, known };
      }),
    );
    const isSentHere = request.from === 'peer' || candidates.some(({ facts }) => facts.wasReplayed);
    const ranks = isSentHere ? [this.#isOwn, this.#isHere] : [this.#isOwn, ...RANKS];
    for (const has of ranks) {
      const best = candidates.find(({ known }) => has(known));
      if (best) return this.#decide(best.ids, best.facts, best.known, trace);
    }
    return this.#routeWith(request, NO_ID, trace);
  }

  readonly #isOwn: Rank = ({ owner }) =>
    isKnown(owner, ['store']) && owner.machine === this.#parts.self;

  readonly #isHere: Rank = ({ owner }) =>
    owner.kind === 'owner' && owner.machine === this.#parts.self;

  /** Never rejects: a failed owner lookup proves nothing (invariant 11). */
  async #findOwner(
    request: ArrivedRequest,
    ids: FoundIds,
    facts: RoutingFacts,
    trace: Trace,
  ): Promise<Known> {
    try {
      return await this.#parts.owners.find(ids, facts, request, trace);
    } catch {
      return UNCERTAIN;
    }
  }

  /** For a request whose session is not looked up. */
  decideEarly(why: keyof typeof EARLY_DECISIONS, trace?: Trace): Routed {
    const decision = EARLY_DECISIONS[why];
    trace?.take({ step: 'decision', row: undefined, decision });
    return { decision, ...UNROUTED };
  }

  /** The app refused a connection, so this Machine accepts no new sessions now, but another one may. */
  elsewhere(request: ArrivedRequest, { ids }: Routed): Routed | undefined {
    const routed = ids.kind === 'none' ? this.#routeWith(request, ids, undefined) : undefined;
    if (!routed || routed instanceof Promise) return undefined;
    return routed.decision.kind === 'elsewhere' ? routed : undefined;
  }

  /** Another Machine won the claim of the session. */
  toWinner({ from }: ArrivedRequest, routed: Routed, winner: MachineId): Routed {
    const decision = decideLostClaim(from, routed.mayReplay, winner);
    return { ...routed, decision, owner: winner };
  }

  /**
   * The place of a new session is unreachable. Undefined if unknown sessions are rejected: the place would
   * have rejected the session, or known it.
   */
  withoutPlace(routed: Routed): Routed | undefined {
    const { self, policy } = this.#parts;
    const owner = routed.binding?.machine;
    if (owner === undefined && policy.unknownSession === 'reject') return undefined;
    return { ...routed, decision: decideUnreachedPlace(owner, self) };
  }

  #namedByCookie({ head }: ArrivedRequest): Known | Promise<Known> {
    const { self, namedByCookie, liveness, directory } = this.#parts;
    const machines = namedByCookie?.(head) ?? [];
    const isHad = (machine: MachineId): boolean =>
      machine === self || liveness.peer(machine) !== undefined;
    const machine = machines.length > 1 ? (machines.find(isHad) ?? machines[0]) : machines[0];
    if (machine === undefined) return NO_OWNER;
    if (machine === self) return ofCookie(machine, 'running');
    const state = liveness.of(machine);
    // A Machine that counts as gone because it was stopped may have started since the last refresh.
    const isInDoubt = state === 'gone' && liveness.listing(machine) === 'stopped';
    if (!isInDoubt) return ofCookie(machine, state);
    return directory.findNewMachines().then(() => ofCookie(machine, liveness.of(machine)));
  }

  #decide(
    ids: RequestIds,
    facts: RoutingFacts,
    { owner, key, binding, wholeId }: Known,
    trace: Trace,
  ): Routed {
    const state = this.#stateFor(ids, owner, key);
    return {
      decision: trace ? tracedDecision(facts, owner, state, trace) : decide(facts, owner, state),
      ids,
      key,
      owner: owner.kind === 'owner' ? owner.machine : undefined,
      binding,
      wholeId,
      mayReplay: isFirstPass(facts) && facts.isReplayable,
    };
  }

  /** Includes the place of the session, if no Machine that can serve it owns it. */
  #stateFor(ids: RequestIds, owner: OwnerLookup, key: SessionKey | undefined): MachineState {
    const isOwned = owner.kind === 'owner' && owner.liveness !== 'gone';
    if (isOwned || key === undefined || ids.kind !== 'found') return this.#state;
    const { place, liveness } = this.#parts;
    const placedOn = place(key, ids.protocol.mintedBy);
    return { ...this.#state, placedOn, isFleetProbed: liveness.isFleetProbed() };
  }
}

const UNROUTED = {
  ids: { kind: 'none' },
  key: undefined,
  owner: undefined,
  binding: undefined,
  wholeId: undefined,
  mayReplay: false,
} as const satisfies Omit<Routed, 'decision'>;

/** A guess that nobody knows counts as none, but the app gets the text as it came. */
function withWholeId(
  routed: Routed | Promise<Routed>,
  wholeId: SessionId | undefined,
): Routed | Promise<Routed> {
  if (wholeId === undefined) return routed;
  const withIt = (result: Routed): Routed => ({ ...result, wholeId: result.wholeId ?? wholeId });
  return routed instanceof Promise ? routed.then(withIt) : withIt(routed);
}

function ofCookie(machine: MachineId, liveness: LivenessState): Known {
  return { owner: { kind: 'owner', machine, knownBy: 'cookie', liveness } };
}

function isFirstPass(facts: RoutingFacts): boolean {
  return facts.from === 'edge' && facts.unmarkedFrom === undefined && !isReplayUsedUp(facts);
}

function tracedDecision(
  facts: RoutingFacts,
  owner: OwnerLookup,
  state: MachineState,
  trace: Tracer,
): Decision {
  let row: number | undefined;
  const decision = decide(facts, owner, state, (number) => (row = number));
  trace.take({ step: 'owner', owner });
  trace.take({ step: 'facts', facts });
  trace.take({ step: 'state', state: { ...state } });
  trace.take({ step: 'decision', row, decision });
  return decision;
}

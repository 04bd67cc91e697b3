/** Where a request goes: facts -> owner -> decision. Nothing is done here, so it can be explained too. */
import type { RequestHead } from '../protocols/heads.ts';
import { decide, type MachineState, type Owner, type RoutingFacts } from './decide.ts';
import { type Decision, type NotAccepting } from './decision.ts';
import { type LivenessState } from '../fleet/liveness.ts';
import type { ReadRequestIds, RequestIds } from '../protocols/request-ids.ts';
import { parseMachineId, type Binding, type MachineId } from '../session.ts';
import type { SessionId, SessionKey } from '../session.ts';
import type { Directory } from '../fleet/directory.ts';
import type { Source } from '../fleet/rate-limits.ts';
import type { Liveness } from '../fleet/liveness.ts';
import { PROTOCOL_VERSION } from '../fleet/messages.ts';
import {
  parseReplayCacheStatus,
  parseReplayFailure,
  parseReplaySource,
  REPLAY_MARK,
} from '../fly.ts';
import type { EdgeFields } from './edge-fields.ts';
import type { OwnerFinder, Ownership } from './find-owner.ts';
import type { Place } from './placement.ts';

/** A request that has arrived. */
export interface ArrivedRequest {
  readonly from: 'edge' | 'peer';
  /** As the client sent it, hints included. */
  readonly head: RequestHead;
  readonly fields: EdgeFields;
  /** Of the body, in bytes; undefined if it is not known beforehand. */
  readonly bodyLength: number | undefined;
  /** The peer that has forwarded it for a new session that is to be placed here. */
  readonly placedBy: MachineId | undefined;
  /** Whose questions to peers count together. */
  readonly source: Source | undefined;
}

/** Where a request goes and why, and what its answer may teach. */
export interface Routed {
  readonly decision: Decision;
  readonly extraction: RequestIds;
  readonly key: SessionKey | undefined;
  /** Whose session it is, where that is known. */
  readonly owner: MachineId | undefined;
  readonly binding: Binding | undefined;
  /** Set if the app gets the id as it is: what looks like a hint belongs to it. */
  readonly wholeId: SessionId | undefined;
  /** Whether the edge may still be asked to replay it. */
  readonly mayReplay: boolean;
}

/** What a decision was made of. */
export interface Basis {
  readonly facts: RoutingFacts;
  readonly owner: Owner;
  readonly state: MachineState;
}

export interface RouteParts {
  readonly self: MachineId;
  readonly extract: ReadRequestIds;
  readonly owners: OwnerFinder;
  /** Whom a request without a session id names by its affinity cookie; undefined: there is none. */
  readonly namedByCookie: ((head: RequestHead) => MachineId | undefined) | undefined;
  readonly liveness: Pick<Liveness, 'of' | 'listing' | 'peer' | 'versionOf' | 'isFleetProbed'>;
  readonly place: Place;
  readonly directory: Pick<Directory, 'others' | 'findNewMachines'>;
  /** Why new sessions are to go elsewhere just now, if they are. */
  readonly notAccepting: () => NotAccepting | undefined;
  readonly policy: Pick<MachineState, 'ownerGone' | 'unknownSession' | 'replays'>;
  readonly replayMaxBodyBytes: number;
  /** Told what a decision is about to be made of. */
  readonly onBasis?: (basis: Basis) => void;
}

/** Synchronous where this Machine's store knows the owner; never rejects. */
export type Route = (request: ArrivedRequest) => Routed | Promise<Routed>;

/** All that is known, where there is a session; else only whom the request names, if anybody. */
type Known = Pick<Ownership, 'owner'> & Partial<Ownership>;

const NOBODY: Known = { owner: { kind: 'none' } };
/** What went wrong on the way to an answer is no answer (invariant 11). */
const UNCERTAIN: Known = { owner: { kind: 'inconclusive', mayBeOurs: true } };

function ofCookie(machine: MachineId, presence: LivenessState): Known {
  return { owner: { kind: 'machine', machine, knownBy: 'cookie', liveness: presence } };
}

export function createRoute(parts: RouteParts): Route {
  const { self, extract, owners, directory, liveness, policy, namedByCookie, onBasis } = parts;

  function route(request: ArrivedRequest): Routed | Promise<Routed> {
    const extraction = extract(request.head);
    if (extraction.kind === 'conflict') {
      return unrouted({ kind: 'refuse', status: 400, why: 'conflicting-ids' });
    }
    const facts = factsOf(request, extraction);
    const ownership: Known | Promise<Known> =
      extraction.kind === 'none' ? named(request) : owners.find(extraction, facts, request);
    if (!(ownership instanceof Promise)) return settle(extraction, facts, ownership);
    const onFound = (known: Known): Routed => settle(extraction, facts, known);
    return ownership.then(onFound, () => onFound(UNCERTAIN));
  }

  function named({ head }: ArrivedRequest): Known | Promise<Known> {
    const machine = namedByCookie?.(head);
    if (machine === undefined) return NOBODY;
    if (machine === self) return ofCookie(machine, 'running');
    const presence = liveness.of(machine);
    // One that counts as gone because it had stopped may have been woken since the last reading.
    const isInDoubt = presence === 'gone' && liveness.listing(machine) === 'stopped';
    if (!isInDoubt) return ofCookie(machine, presence);
    return directory.findNewMachines().then(() => ofCookie(machine, liveness.of(machine)));
  }

  function factsOf(
    { from, fields, bodyLength, placedBy }: ArrivedRequest,
    extraction: RequestIds,
  ): RoutingFacts {
    const isFound = extraction.kind === 'found';
    const { wasReplayed, replayedBy, unmarkedFrom } = replayOf(fields.replaySource);
    return {
      from,
      hasId: isFound,
      mintedBy: isFound ? extraction.protocol.mintedBy : 'app',
      isPlaced: placedBy !== undefined,
      wasReplayed,
      replayedBy,
      unmarkedFrom,
      hasReplaySource: fields.replaySource !== undefined,
      cameBackByFallback: fields.replayFailed !== undefined,
      undeliveredTo: undeliveredTo(fields),
      isFromReplayCache:
        fields.replayCacheStatus !== undefined &&
        parseReplayCacheStatus(fields.replayCacheStatus) === 'hit',
      isReplayable: isReplayable(bodyLength),
    };
  }

  /** Who has replayed it: a sidecar of the fleet, an app of the fleet, or somebody else, which is a first pass. */
  function replayOf(text: string | undefined): ReplayFacts {
    if (text === undefined) return NOT_REPLAYED;
    const { instance, state } = parseReplaySource(text);
    if (state === REPLAY_MARK) return { ...REPLAYED, replayedBy: instance };
    const isOfFleet =
      instance === self || (instance !== undefined && liveness.peer(instance) !== undefined);
    // A sidecar that this Machine does not list may have made a replay for the edge's cache.
    if (!isOfFleet) return policy.replays === 'cacheable' ? REPLAYED : NOT_REPLAYED;
    // A sidecar of an older version marks nothing.
    const marks = instance === self || (liveness.versionOf(instance) ?? 1) >= PROTOCOL_VERSION;
    return marks ? { ...NOT_REPLAYED, unmarkedFrom: instance } : REPLAYED;
  }

  /** Fly Proxy replays bodies up to 1 MB, and must know their length beforehand. */
  function isReplayable(bodyLength: number | undefined): boolean {
    return bodyLength !== undefined && bodyLength <= parts.replayMaxBodyBytes;
  }

  function settle(
    extraction: RequestIds,
    facts: RoutingFacts,
    { owner, key, binding, wholeId }: Known,
  ): Routed {
    const isNobodys = owner.kind !== 'machine' || owner.liveness === 'gone';
    const state = stateNow(isNobodys ? extraction : undefined, key);
    onBasis?.({ facts, owner, state });
    return {
      decision: decide(facts, owner, state),
      extraction,
      key,
      owner: owner.kind === 'machine' ? owner.machine : undefined,
      binding,
      wholeId,
      mayReplay: isFirstPass(facts) && facts.isReplayable,
    };
  }

  /** `extraction`: of a request whose session is nobody's, and may have to be placed. */
  function stateNow(extraction: RequestIds | undefined, key: SessionKey | undefined): MachineState {
    const isPlaceable = key !== undefined && extraction?.kind === 'found';
    return {
      self,
      notAccepting: parts.notAccepting(),
      placedOn: isPlaceable ? parts.place(key, extraction.protocol.mintedBy) : undefined,
      isFleetProbed: !isPlaceable || liveness.isFleetProbed(),
      hasOtherMachines: directory.others().length > 0,
      ownerGone: policy.ownerGone,
      unknownSession: policy.unknownSession,
      replays: policy.replays,
    };
  }

  return route;
}

type ReplayFacts = Pick<RoutingFacts, 'wasReplayed' | 'replayedBy' | 'unmarkedFrom'>;
const NOT_REPLAYED: ReplayFacts = {
  ...{ wasReplayed: false, replayedBy: undefined, unmarkedFrom: undefined },
};
const REPLAYED: ReplayFacts = { ...NOT_REPLAYED, wasReplayed: true };

/** For what has no session that could be looked at. */
export function unrouted(decision: Decision): Routed {
  return { decision, ...UNROUTED };
}

const UNROUTED = {
  extraction: { kind: 'none' },
  key: undefined,
  owner: undefined,
  binding: undefined,
  wholeId: undefined,
  mayReplay: false,
} as const satisfies Omit<Routed, 'decision'>;

function isFirstPass({
  from,
  wasReplayed,
  unmarkedFrom,
  cameBackByFallback,
}: RoutingFacts): boolean {
  return from === 'edge' && !wasReplayed && unmarkedFrom === undefined && !cameBackByFallback;
}

/** What came back names the Machine of the last hop; a preference may be older than that. */
function undeliveredTo({ replayFailed, preferredUnavailable }: EdgeFields): MachineId | undefined {
  if (replayFailed !== undefined) return parseReplayFailure(replayFailed).instance;
  return preferredUnavailable === undefined ? undefined : parseMachineId(preferredUnavailable);
}

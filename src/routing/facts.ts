/** The input of a decision: the facts of a request, the result of the owner lookup, the state of this Machine. */
import type { Liveness, LivenessState } from '../fleet/liveness.ts';
import { PROTOCOL_VERSION } from '../fleet/messages.ts';
import type { Source } from '../fleet/rate-limits.ts';
import { parseReplayCacheStatus, parseReplayFailure, parseReplaySource } from '../fly.ts';
import { isHeader, type RequestHead } from '../protocols/heads.ts';
import type { RequestIds } from '../protocols/request-ids.ts';
import { parseMachineId, type MachineId } from '../session.ts';
import type { NotAccepting } from './decision.ts';
import { isReplayMark } from './replay-state.ts';

/** A request as it arrived. */
export interface ArrivedRequest {
  readonly from: 'edge' | 'peer';
  /** As the client sent it, hints included. */
  readonly head: RequestHead;
  readonly fields: EdgeFields;
  /** In bytes; undefined if the head does not give it. */
  readonly bodyLength: number | undefined;
  /** The peer that forwarded it here as the place of a new session. */
  readonly placedBy: MachineId | undefined;
  /** The rate limit that queries to peers count against. */
  readonly source: Source | undefined;
}

/** The fields that the edge adds to a request (Fly.io, "Request headers"). A client may forge each. */
export interface EdgeFields {
  readonly requestId: string | undefined;
  /** The client's address, as the edge sees it. */
  readonly clientIp: string | undefined;
  readonly replaySource: string | undefined;
  readonly replayFailed: string | undefined;
  readonly preferredUnavailable: string | undefined;
  readonly replayCacheStatus: string | undefined;
  /** Of the client or the edge (W3C Trace Context). */
  readonly traceParent: string | undefined;
}

/** What a request carries about its path and itself. A client could have written all of it. */
export interface RoutingFacts {
  readonly from: 'edge' | 'peer';
  readonly hasId: boolean;
  /** A client may send its own ids to any Machine; an app accepts only ids that it minted. */
  readonly mintedBy: 'app' | 'client' | 'either';
  /** Another Machine may serve the session if its owner can't: its app may keep sessions elsewhere. */
  readonly isSoft: boolean;
  /** A peer has forwarded it to this Machine as the place of a new session. */
  readonly isPlaced: boolean;
  /** A sidecar has replayed it: `fly-replay-src` carries our mark, or names a peer of an older version. */
  readonly wasReplayed: boolean;
  /** The Machine whose sidecar replayed it, if the edge names it. */
  readonly replayedBy: MachineId | undefined;
  /** `fly-replay-src` names this peer without a mark: usually its app has replayed the request. */
  readonly unmarkedFrom: MachineId | undefined;
  /** It carries `fly-replay-failed`: the edge may not replay it again. */
  readonly cameBackByFallback: boolean;
  /** It carries `fly-replay-src`, marked or not. */
  readonly hasReplaySource: boolean;
  /** The Machine that the edge could not reach, by `fly-replay-failed` or `fly-preferred-instance-unavailable`. */
  readonly undeliveredTo: MachineId | undefined;
  /** `fly-replay-cache-status: hit`: the edge chose this Machine from its cache; no sidecar replayed the request. */
  readonly isFromReplayCache: boolean;
  /** No `Transfer-Encoding`, and a length within the limit. No length means no body. */
  readonly isReplayable: boolean;
}

/** The result of the owner lookup. */
export type OwnerLookup =
  | {
      readonly kind: 'owner';
      readonly machine: MachineId;
      /** `cookie`: no session id; the cookie names the Machine that served this client before. */
      readonly knownBy: 'store' | 'hint' | 'peers' | 'cookie';
      /** How the owner got the id, if the store knows. */
      readonly origin?: 'learned' | 'adopted' | 'copied';
      readonly liveness: LivenessState;
      /** All peers have responded that they do not own the session; if false, an unresponsive one may. */
      readonly isUncontested?: boolean;
    }
  /**
   * No source has an owner, and all have responded. `isInFlightHere`: this Machine serves a request of that session
   * which its app has not accepted yet.
   */
  | { readonly kind: 'none'; readonly isInFlightHere?: true }
  /**
   * A source that could know has not responded. `mayBeOurs`: this Machine's store is one of them;
   * `isShed`: no peer was queried, because the source of the request exceeds its rate limit.
   */
  | { readonly kind: 'inconclusive'; readonly mayBeOurs: boolean; readonly isShed?: boolean };

export type KnownOwner = OwnerLookup & { readonly kind: 'owner' };

export interface MachineState {
  readonly self: MachineId;
  /** Set while this Machine accepts no new sessions. */
  readonly notAccepting: NotAccepting | undefined;
  readonly hasOtherMachines: boolean;
  readonly ownerGone: 'reject' | 'adopt';
  readonly unknownSession: 'serve' | 'reject';
  /** `cacheable`: replays are made for the edge's replay cache where possible. */
  readonly replays: 'resilient' | 'cacheable';
  /** The Machine on which a new session of the request's id is placed; undefined without an id. */
  readonly placedOn: MachineId | undefined;
  /** Whether every peer was probed: it is known to respond or not. */
  readonly isFleetProbed: boolean;
}

/** A sidecar's replay, or the edge's fallback, sent the request here: no second replay is allowed. */
export function isReplayUsedUp(facts: RoutingFacts): boolean {
  return facts.wasReplayed || facts.cameBackByFallback;
}

/**
 * Whether the edge reports that it could not deliver the request to that Machine. If it names no Machine,
 * it means the one that we named.
 */
export function wasUndelivered(
  { cameBackByFallback, undeliveredTo }: Pick<RoutingFacts, 'cameBackByFallback' | 'undeliveredTo'>,
  machine: MachineId,
): boolean {
  return undeliveredTo === undefined ? cameBackByFallback : undeliveredTo === machine;
}

export interface FactsParts {
  readonly self: MachineId;
  readonly liveness: Pick<Liveness, 'peer' | 'versionOf'>;
  readonly replays: MachineState['replays'];
  /** Fly Proxy replays bodies up to 1 MB, and must know their length in advance. */
  readonly replayMaxBodyBytes: number;
}

type ReplayFacts = Pick<RoutingFacts, 'wasReplayed' | 'replayedBy' | 'unmarkedFrom'>;

const NOT_REPLAYED: ReplayFacts = {
  wasReplayed: false,
  replayedBy: undefined,
  unmarkedFrom: undefined,
};
const REPLAYED: ReplayFacts = { ...NOT_REPLAYED, wasReplayed: true };

/** HOT PATH. */
export function factsOf(
  { from, fields, bodyLength, placedBy }: ArrivedRequest,
  ids: RequestIds,
  parts: FactsParts,
): RoutingFacts {
  const hasId = ids.kind === 'found';
  const { wasReplayed, replayedBy, unmarkedFrom } = replayOf(fields.replaySource, parts);
  return {
    from,
    hasId,
    mintedBy: hasId ? ids.protocol.mintedBy : 'app',
    isSoft: hasId && ids.protocol.isSoft === true,
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
    isReplayable: bodyLength !== undefined && bodyLength <= parts.replayMaxBodyBytes,
  };
}

/** The origin of a replay: a sidecar of the fleet, an app of the fleet, or another program (a first pass). */
function replayOf(text: string | undefined, parts: FactsParts): ReplayFacts {
  if (text === undefined) return NOT_REPLAYED;
  const { self, liveness, replays } = parts;
  const { instance, state } = parseReplaySource(text);
  if (isReplayMark(state)) return { ...REPLAYED, replayedBy: instance };
  const isOfFleet =
    instance === self || (instance !== undefined && liveness.peer(instance) !== undefined);
  // A sidecar that this Machine does not list may have made a replay for the edge's cache.
  if (!isOfFleet) return replays === 'cacheable' ? REPLAYED : NOT_REPLAYED;
  // A sidecar of an older version does not mark its replays.
  const marks = instance === self || (liveness.versionOf(instance) ?? 1) >= PROTOCOL_VERSION;
  return marks ? { ...NOT_REPLAYED, unmarkedFrom: instance } : REPLAYED;
}

/** `fly-replay-failed` names the Machine of the last hop; a preference may be older. */
function undeliveredTo({ replayFailed, preferredUnavailable }: EdgeFields): MachineId | undefined {
  if (replayFailed !== undefined) return parseReplayFailure(replayFailed).instance;
  return preferredUnavailable === undefined ? undefined : parseMachineId(preferredUnavailable);
}

/** Names, in lower case, of the {@link EdgeFields}. */
export const EDGE_NAMES = [
  ...['fly-request-id', 'fly-replay-src', 'fly-replay-failed', 'fly-replay-cache-status'],
  ...['fly-preferred-instance-unavailable', 'fly-client-ip', 'traceparent'],
];

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const NONE: EdgeFields = {
  requestId: undefined,
  clientIp: undefined,
  replaySource: undefined,
  replayFailed: undefined,
  preferredUnavailable: undefined,
  replayCacheStatus: undefined,
  traceParent: undefined,
};

/** HOT PATH: the length of a name rules out most fields. */
export function readEdgeFields(rawHeaders: readonly string[]): EdgeFields {
  let fields: Mutable<EdgeFields> | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const key = keyOf(rawHeaders[i] ?? '');
    if (key === undefined) continue;
    fields ??= { ...NONE };
    const value = rawHeaders[i + 1] ?? '';
    // Two of them are one list (RFC 9110 §5.3), which is no `traceparent`: which one is meant can't be known.
    const isSecond = key === 'traceParent' && fields.traceParent !== undefined;
    fields[key] = isSecond ? `${fields.traceParent}, ${value}` : value;
  }
  return fields ?? NONE;
}

function keyOf(name: string): keyof EdgeFields | undefined {
  switch (name.length) {
    case 11:
      return isHeader(name, 'traceparent') ? 'traceParent' : undefined;
    case 13:
      return isHeader(name, 'fly-client-ip') ? 'clientIp' : undefined;
    case 14:
      if (isHeader(name, 'fly-request-id')) return 'requestId';
      return isHeader(name, 'fly-replay-src') ? 'replaySource' : undefined;
    case 17:
      return isHeader(name, 'fly-replay-failed') ? 'replayFailed' : undefined;
    case 23:
      return isHeader(name, 'fly-replay-cache-status') ? 'replayCacheStatus' : undefined;
    case 34:
      return isHeader(name, 'fly-preferred-instance-unavailable')
        ? 'preferredUnavailable'
        : undefined;
    default:
      return undefined;
  }
}

/**
 * The key of a client's rate limit: its IPv4 address, or the first 64 bits of its IPv6 address in
 * canonical form, because one client can choose the rest. Any other text is returned unchanged.
 */
export function sourceOf(text: string): string {
  const address = text.slice(0, MAX_CHARACTERS);
  if (!address.includes(':') || address.includes('.')) return address;
  const [head = '', tail] = address.split('::', 2);
  const groups = head === '' ? [] : head.split(':');
  const ofTail = tail === undefined || tail === '' ? [] : tail.split(':');
  const missing = tail === undefined ? 0 : Math.max(0, GROUPS - groups.length - ofTail.length);
  const all = [...groups, ...Array<string>(missing).fill('0'), ...ofTail];
  return all.slice(0, NETWORK_GROUPS).map(plainGroup).join(':');
}

/** The longest text of an address: IPv6 that ends with IPv4. */
const MAX_CHARACTERS = 45;
const GROUPS = 8;
const NETWORK_GROUPS = 4;

/** `0DB8` and `db8` are the same. */
function plainGroup(group: string): string {
  return group.toLowerCase().replace(/^0+(?=.)/, '');
}

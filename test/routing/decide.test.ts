import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decide, DECISION_ROWS } from '../../src/routing/decide.ts';
import type {
  KnownOwner,
  MachineState,
  OwnerLookup,
  RoutingFacts,
} from '../../src/routing/facts.ts';
import {
  WHYS,
  type Decision,
  type NotAccepting,
  type ReplayForm,
} from '../../src/routing/decision.ts';
import type { MachineId } from '../../src/session.ts';
import { anyFacts, anyOwner, anyState, OTHER, SELF, THIRD } from './arbitraries.ts';

const FIRST_PASS: RoutingFacts = {
  from: 'edge',
  hasId: true,
  mintedBy: 'app',
  isSoft: false,
  isPlaced: false,
  wasReplayed: false,
  replayedBy: undefined,
  unmarkedFrom: undefined,
  hasReplaySource: false,
  cameBackByFallback: false,
  undeliveredTo: undefined,
  isFromReplayCache: false,
  isReplayable: true,
};
const NO_ID = { hasId: false };
const PEER = { from: 'peer' } as const;
const REPLAYED = { wasReplayed: true };
const BACK = { cameBackByFallback: true };
const BACK_FROM_OTHER = { ...BACK, undeliveredTo: OTHER };
const BACK_FROM_THIRD = { ...BACK, undeliveredTo: THIRD };
const TOO_LARGE = { isReplayable: false };
const SOFT = { isSoft: true };
const CLIENTS = { mintedBy: 'client' } as const;
const EITHERS = { mintedBy: 'either' } as const;

const TAKING: MachineState = {
  self: SELF,
  notAccepting: undefined,
  hasOtherMachines: true,
  ownerGone: 'reject',
  unknownSession: 'serve',
  replays: 'resilient',
  placedOn: SELF,
  isFleetProbed: true,
};
const DRAINING = { notAccepting: 'draining' } as const;
const ALONE = { hasOtherMachines: false };
const REJECT = { unknownSession: 'reject' } as const;
const CACHEABLE = { replays: 'cacheable' } as const;
const ADOPT = { ownerGone: 'adopt' } as const;
const ON_OTHER = { placedOn: OTHER };
const NOT_PROBED = { isFleetProbed: false };
const PLACED = { ...PEER, isPlaced: true } as const;
const BY_APP_OF_OTHER = { unmarkedFrom: OTHER };
const BY_APP_OF_THIRD = { unmarkedFrom: THIRD };

const known = (machine: MachineId, more: Partial<KnownOwner> = {}): KnownOwner => ({
  kind: 'owner',
  machine,
  knownBy: 'store',
  liveness: 'running',
  ...more,
});
const NONE: OwnerLookup = { kind: 'none' };
const BEGUN_HERE: OwnerLookup = { kind: 'none', isInFlightHere: true };
const INCONCLUSIVE: OwnerLookup = { kind: 'inconclusive', mayBeOurs: true };
/** Our own store has returned absent. */
const PEERS_INCONCLUSIVE: OwnerLookup = { kind: 'inconclusive', mayBeOurs: false };
const SHED: OwnerLookup = { kind: 'inconclusive', mayBeOurs: false, isShed: true };
const MINE = known(SELF);
const MY_HINT = known(SELF, { knownBy: 'hint' });
const THEIRS = known(OTHER);
const MY_COOKIE = known(SELF, { knownBy: 'cookie' });
const THEIR_COOKIE = known(OTHER, { knownBy: 'cookie' });
const THEIR_HINT = known(OTHER, { knownBy: 'hint' });
const BY_PEERS = known(OTHER, { knownBy: 'peers' });
const LOST = { liveness: 'gone', isUncontested: true } as const;
const GONE = known(OTHER, { ...LOST, origin: 'learned' });
const GONE_COPY = known(OTHER, { ...LOST, origin: 'copied' });
const GONE_ADOPTED = known(OTHER, { ...LOST, origin: 'adopted' });
const GONE_HINT = known(OTHER, { ...LOST, knownBy: 'hint' });
const UNRESPONSIVE = known(OTHER, { liveness: 'unresponsive', isUncontested: true });
const STOPPED = known(OTHER, { liveness: 'stopped' });
const DETOURED = known(OTHER, { liveness: 'unreachable-from-edge' });
const UNLISTED = known(OTHER, { liveness: 'unlisted', isUncontested: true });
const GONE_CONTESTED = known(OTHER, { liveness: 'gone', origin: 'adopted' });

const local = (why: Decision['why'], mayClaim = false, takeOverFrom?: MachineId): Decision => ({
  ...{ kind: 'local', why, mayClaim },
  ...(takeOverFrom && { takeOverFrom }),
  ...(why === 'peers-inconclusive' && { isInDoubt: true }),
});
const elsewhere = (why: NotAccepting): Decision => ({ kind: 'elsewhere', why });
const forward = (why: Decision['why']): Decision => ({ kind: 'forward', to: OTHER, why });
const refuse = (status: 404 | 421 | 503, why: Decision['why']): Decision => ({
  kind: 'refuse',
  status,
  why,
});
const replay = (
  form: ReplayForm = 'resilient',
  invalidatesCache = false,
  why: Decision['why'] = 'not-owner',
): Decision => ({
  kind: 'replay',
  to: OTHER,
  why,
  form,
  invalidatesCache,
});

interface Row {
  readonly row: number;
  readonly claim: string;
  readonly facts: Partial<RoutingFacts>;
  readonly owner: OwnerLookup;
  readonly state?: Partial<MachineState>;
  readonly gives: Decision;
}

// prettier-ignore
const TABLE: readonly Row[] = [
  { row: 1, claim: 'a peer with an outdated owner gets a 421', facts: PEER, owner: THEIRS, gives: refuse(421, 'moved') },
  { row: 1, claim: 'a peer with an outdated owner gets a 421, though the owner is gone', facts: PEER, owner: GONE, gives: refuse(421, 'moved') },
  { row: 1, claim: 'a peer with an outdated owner gets a 421 while draining', facts: PEER, owner: THEIRS, state: DRAINING, gives: refuse(421, 'moved') },
  { row: 1, claim: 'a request that a peer has placed here is rejected if another peer owns its session', facts: { ...PLACED, ...CLIENTS }, owner: BY_PEERS, gives: refuse(421, 'moved') },
  { row: 2, claim: 'a request over its source’s query limit is not placed by a peer either', facts: { ...PLACED, ...CLIENTS }, owner: SHED, gives: refuse(503, 'overloaded') },
  { row: 3, claim: 'an unknown session that a peer has placed here may be rejected', facts: { ...PLACED, ...CLIENTS }, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 4, claim: 'and only temporarily if another peer is unresponsive', facts: { ...PLACED, ...CLIENTS }, owner: PEERS_INCONCLUSIVE, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 5, claim: 'a request that a peer has placed here is served and claimed', facts: { ...PLACED, ...CLIENTS }, owner: NONE, gives: local('peer-hop', true) },
  { row: 5, claim: 'a request that a peer has placed here stays here, whatever place this Machine computes', facts: { ...PLACED, ...CLIENTS }, owner: NONE, state: ON_OTHER, gives: local('peer-hop', true) },
  { row: 6, claim: 'a request that a peer has placed here is claimed though another peer is unresponsive', facts: { ...PLACED, ...CLIENTS }, owner: PEERS_INCONCLUSIVE, gives: { kind: 'local', why: 'peer-hop', mayClaim: true, isInDoubt: true } },
  { row: 7, claim: 'a peer’s request is served, and its id may be adopted', facts: PEER, owner: NONE, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request is served by the owner', facts: PEER, owner: MINE, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request is served though our store returns unknown', facts: PEER, owner: INCONCLUSIVE, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request stays here whatever its hint names', facts: PEER, owner: THEIR_HINT, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request stays here while draining', facts: PEER, owner: NONE, state: DRAINING, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request stays here though unknown sessions are rejected', facts: PEER, owner: NONE, state: REJECT, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request without an id stays here', facts: { ...PEER, ...NO_ID }, owner: NONE, state: DRAINING, gives: local('peer-hop', true) },
  { row: 7, claim: 'a peer’s request with a cookie stays here', facts: { ...PEER, ...NO_ID }, owner: THEIR_COOKIE, gives: local('peer-hop', true) },
  { row: 8, claim: 'a client-minted id is served and not adopted: no peer was queried', facts: { ...PEER, ...EITHERS }, owner: NONE, gives: local('peer-hop') },
  { row: 9, claim: 'an app’s replay is served where it arrives', facts: BY_APP_OF_OTHER, owner: THEIRS, gives: local('app-replay') },
  { row: 9, claim: 'whichever Machine owns its session', facts: BY_APP_OF_THIRD, owner: THEIRS, gives: local('app-replay') },
  { row: 9, claim: 'and claims nothing', facts: { ...BY_APP_OF_OTHER, ...CLIENTS }, owner: NONE, gives: local('app-replay') },
  { row: 9, claim: 'and is placed nowhere', facts: { ...BY_APP_OF_OTHER, ...CLIENTS }, owner: NONE, state: ON_OTHER, gives: local('app-replay') },
  { row: 9, claim: 'while draining, too', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: NONE, state: DRAINING, gives: local('app-replay') },
  { row: 9, claim: 'and follows no cookie', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: THEIR_COOKIE, gives: local('app-replay') },
  { row: 9, claim: 'in cacheable mode an unmarked replay from the owner is the app’s', facts: BY_APP_OF_OTHER, owner: THEIRS, state: CACHEABLE, gives: local('app-replay') },
  { row: 9, claim: 'in cacheable mode one from the Machine of the cookie is the app’s', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: THEIR_COOKIE, state: CACHEABLE, gives: local('app-replay') },
  { row: 10, claim: 'a new session goes elsewhere from a draining Machine', facts: NO_ID, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 10, claim: 'a new session goes elsewhere from a full Machine', facts: NO_ID, owner: NONE, state: { notAccepting: 'full' }, gives: elsewhere('full') },
  { row: 10, claim: 'a new session goes elsewhere when the app is down', facts: NO_ID, owner: NONE, state: { notAccepting: 'upstream-down' }, gives: elsewhere('upstream-down') },
  { row: 10, claim: 'a request from the replay cache may still go elsewhere', facts: { ...NO_ID, isFromReplayCache: true }, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 10, claim: 'a cookie of a Machine that is gone does not prevent going elsewhere', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'gone' }, state: DRAINING, gives: elsewhere('draining') },
  { row: 11, claim: 'a request without an id is served here', facts: NO_ID, owner: NONE, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine without peers still serves', facts: NO_ID, owner: NONE, state: { ...DRAINING, ...ALONE }, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves a request replayed to it', facts: { ...NO_ID, ...REPLAYED }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves an undelivered request that came back', facts: { ...NO_ID, ...BACK }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves a body that is too large to replay', facts: { ...NO_ID, ...TOO_LARGE }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'if its Machine was unreachable, any Machine serves', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'if its Machine did not start, any Machine serves', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'stopped' }, gives: local('no-session') },
  { row: 11, claim: 'a request forwarded by another Machine is served', facts: { ...NO_ID, ...REPLAYED }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'an upload for an unlisted Machine is served', facts: { ...NO_ID, ...TOO_LARGE }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'a cookie of a Machine that is gone is ignored', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'gone' }, gives: local('no-session') },
  { row: 12, claim: 'an unresponsive owner is not waited for again', facts: REPLAYED, owner: UNRESPONSIVE, gives: refuse(503, 'owner-unreachable') },
  { row: 12, claim: 'a body too large to replay does not wait for an unresponsive owner', facts: TOO_LARGE, owner: UNRESPONSIVE, gives: refuse(503, 'owner-unreachable') },
  { row: 13, claim: 'a session that has moved meanwhile is forwarded', facts: REPLAYED, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a request that came back from a Machine other than the owner is not replayed again', facts: BACK_FROM_THIRD, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a request that came back from another Machine does not reveal the state of a stopped owner', facts: BACK_FROM_THIRD, owner: STOPPED, state: ADOPT, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request is not replayed after a hint either', facts: REPLAYED, owner: THEIR_HINT, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request is not replayed after a peer’s response either', facts: REPLAYED, owner: BY_PEERS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request from the replay cache is not replayed', facts: { ...REPLAYED, isFromReplayCache: true }, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a request that was already replayed is forwarded to such an owner as to any other', facts: REPLAYED, owner: DETOURED, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a preference for a stopped owner is not replayed a second time', facts: { ...REPLAYED, undeliveredTo: OTHER }, owner: STOPPED, gives: forward('moved-since-replay') },
  { row: 13, claim: 'in cacheable mode one from another Machine is its sidecar’s', facts: BY_APP_OF_THIRD, owner: THEIRS, state: CACHEABLE, gives: forward('moved-since-replay') },
  { row: 14, claim: 'an upload with a cookie for another Machine is forwarded', facts: { ...NO_ID, ...TOO_LARGE }, owner: THEIR_COOKIE, gives: forward('too-large-to-replay') },
  { row: 14, claim: 'a body that is too large to replay is forwarded', facts: TOO_LARGE, owner: THEIRS, gives: forward('too-large-to-replay') },
  { row: 14, claim: 'a body that is too large to replay is forwarded after its hint', facts: TOO_LARGE, owner: THEIR_HINT, gives: forward('too-large-to-replay') },
  { row: 15, claim: 'an owner that the edge recently failed to reach gets a forward', facts: {}, owner: DETOURED, gives: forward('detour') },
  { row: 15, claim: 'a cookie’s Machine that the edge recently failed to reach gets a forward', facts: NO_ID, owner: { ...DETOURED, knownBy: 'cookie' }, gives: forward('detour') },
  { row: 16, claim: 'a cookie for another Machine is followed', facts: NO_ID, owner: THEIR_COOKIE, gives: replay() },
  { row: 16, claim: 'a cookie for another Machine is followed while draining', facts: NO_ID, owner: THEIR_COOKIE, state: DRAINING, gives: replay() },
  { row: 16, claim: 'a cookie starts its Machine', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'stopped' }, gives: replay('waking') },
  { row: 16, claim: 'a cookie for an unlisted Machine is tried once', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: replay('waking') },
  { row: 16, claim: 'another Machine’s session is replayed to its owner', facts: {}, owner: THEIRS, gives: replay() },
  { row: 16, claim: 'another Machine’s session is replayed while draining', facts: {}, owner: THEIRS, state: DRAINING, gives: replay() },
  { row: 16, claim: 'a hint leads to a replay', facts: {}, owner: THEIR_HINT, gives: replay() },
  { row: 16, claim: 'a peer’s response leads to a replay', facts: {}, owner: BY_PEERS, gives: replay() },
  { row: 16, claim: 'a stopped owner is started by the replay', facts: {}, owner: STOPPED, gives: replay('waking') },
  { row: 16, claim: 'an unlisted owner may have started recently', facts: {}, owner: UNLISTED, gives: replay('waking') },
  { row: 16, claim: 'a recently unresponsive owner is tried briefly', facts: {}, owner: UNRESPONSIVE, gives: replay('brief') },
  { row: 16, claim: 'a preference for another Machine does not reveal the owner’s state', facts: { undeliveredTo: THIRD }, owner: THEIRS, gives: replay() },
  { row: 16, claim: 'a preference starts no Machine: a stopped owner is started by the replay', facts: { undeliveredTo: OTHER }, owner: STOPPED, gives: replay('waking') },
  { row: 16, claim: 'a preference for an unlisted owner is no replay', facts: { undeliveredTo: OTHER }, owner: UNLISTED, gives: replay('waking') },
  { row: 16, claim: 'a replay to a running Machine may be cached', facts: {}, owner: THEIRS, state: CACHEABLE, gives: replay('bare') },
  { row: 16, claim: 'a replay that starts its Machine must come back', facts: {}, owner: STOPPED, state: CACHEABLE, gives: replay('waking') },
  { row: 16, claim: 'a replay to an unlisted Machine must come back', facts: {}, owner: UNLISTED, state: CACHEABLE, gives: replay('waking') },
  { row: 16, claim: 'a replay to a recently unresponsive Machine must come back', facts: {}, owner: UNRESPONSIVE, state: CACHEABLE, gives: replay('brief') },
  { row: 16, claim: 'a request replayed by a router app is replayed with a mark', facts: { hasReplaySource: true }, owner: THEIRS, state: CACHEABLE, gives: replay() },
  { row: 16, claim: 'an owner known only from a peer may not be committed yet', facts: {}, owner: BY_PEERS, state: CACHEABLE, gives: replay() },
  { row: 16, claim: 'a wrong entry of the replay cache is invalidated', facts: { isFromReplayCache: true }, owner: THEIRS, gives: replay('resilient', true) },
  { row: 16, claim: 'a replay that invalidates a cache entry comes back if it fails', facts: { isFromReplayCache: true }, owner: THEIRS, state: CACHEABLE, gives: replay('resilient', true) },
  { row: 17, claim: 'the Machine that a cookie names serves', facts: NO_ID, owner: MY_COOKIE, gives: local('owner') },
  { row: 17, claim: 'the Machine that a cookie names serves while draining', facts: NO_ID, owner: MY_COOKIE, state: DRAINING, gives: local('owner') },
  { row: 18, claim: 'a cookie of an unresponsive Machine is kept', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'unresponsive' }, gives: refuse(503, 'owner-unreachable') },
  { row: 19, claim: 'a cookie of a running Machine leads to a forward over the private network', facts: { ...NO_ID, ...BACK }, owner: THEIR_COOKIE, gives: forward('owner-unreachable') },
  { row: 20, claim: 'a lost row is adopted again on the evidence of the hint', facts: {}, owner: MY_HINT, gives: local('owner', true) },
  { row: 20, claim: 'a hint on a client-minted id is adopted if all the peers responded no', facts: EITHERS, owner: known(SELF, { knownBy: 'hint', isUncontested: true }), gives: local('owner', true) },
  { row: 21, claim: 'the owner serves its session', facts: {}, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves its session while draining', facts: {}, owner: MINE, state: DRAINING, gives: local('owner') },
  { row: 21, claim: 'the owner serves a request replayed to it', facts: REPLAYED, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves a request that came back', facts: BACK, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves a body of any size', facts: TOO_LARGE, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'a hint on a client-minted id adopts nothing', facts: EITHERS, owner: MY_HINT, gives: local('owner') },
  { row: 21, claim: 'in cacheable mode one from another Machine is served by the owner', facts: BY_APP_OF_OTHER, owner: MINE, state: CACHEABLE, gives: local('owner') },
  { row: 22, claim: 'a cache that the edge cannot reach is not waited for', facts: { ...BACK, ...SOFT, ...CLIENTS }, owner: THEIRS, gives: local('owner-unreachable') },
  { row: 22, claim: 'a cache that does not respond is not waited for', facts: { ...SOFT, ...CLIENTS }, owner: UNRESPONSIVE, gives: local('owner-unreachable') },
  { row: 23, claim: 'a peer that owns a request that came back gets a forward', facts: BACK, owner: BY_PEERS, gives: forward('owner-unreachable') },
  { row: 23, claim: 'a peer that owns a request that came back gets a forward, replayed or not', facts: { ...BACK, ...REPLAYED, ...TOO_LARGE }, owner: BY_PEERS, gives: forward('owner-unreachable') },
  { row: 23, claim: 'a running owner gets over the private network what the edge could not deliver', facts: BACK, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 23, claim: 'a running owner gets it while draining, too', facts: BACK, owner: THEIRS, state: DRAINING, gives: forward('owner-unreachable') },
  { row: 23, claim: 'a running hinted owner gets a request that came back', facts: BACK, owner: THEIR_HINT, gives: forward('owner-unreachable') },
  { row: 23, claim: 'the edge names the owner, or no Machine', facts: BACK_FROM_OTHER, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 23, claim: 'an undelivered preference for the owner is equivalent to a replay', facts: { undeliveredTo: OTHER }, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 23, claim: 'an undelivered request for an owner that gets forwards anyway is forwarded', facts: BACK, owner: DETOURED, gives: forward('owner-unreachable') },
  { row: 24, claim: 'an undelivered preference for an unresponsive owner', facts: { undeliveredTo: OTHER }, owner: UNRESPONSIVE, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an unresponsive owner keeps its session', facts: BACK, owner: UNRESPONSIVE, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an unresponsive owner keeps its session, whatever the policy', facts: BACK, owner: UNRESPONSIVE, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an unresponsive owner keeps an adopted session', facts: { ...BACK, ...CLIENTS }, owner: { ...UNRESPONSIVE, origin: 'adopted' }, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an unresponsive hinted owner keeps its session', facts: BACK, owner: { ...UNRESPONSIVE, knownBy: 'hint' }, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an owner that is still starting keeps its session', facts: BACK, owner: STOPPED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'an unlisted owner keeps its session', facts: BACK, owner: UNLISTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 25, claim: 'a body that cannot be replayed is forwarded to the place', facts: { ...CLIENTS, ...TOO_LARGE }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 25, claim: 'a request that another directory has placed here is forwarded once', facts: { ...CLIENTS, ...REPLAYED }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 25, claim: 'a place that the edge could not reach gets a forward', facts: { ...CLIENTS, ...BACK }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 25, claim: 'an undelivered preference for the place is equivalent to a replay', facts: { ...CLIENTS, undeliveredTo: OTHER }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 25, claim: 'an adopted session of a gone owner, too', facts: BACK, owner: GONE_ADOPTED, state: ON_OTHER, gives: forward('placed') },
  { row: 26, claim: 'a new session of a client-minted id goes to its place', facts: CLIENTS, owner: NONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'so does one that client or app may have minted', facts: EITHERS, owner: NONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'so does one that an unresponsive peer may own', facts: CLIENTS, owner: PEERS_INCONCLUSIVE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'a draining Machine sends it to its place, and not just elsewhere', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...DRAINING }, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'a replay to a place is never cacheable', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...CACHEABLE }, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'a wrong cache entry is invalidated on the way to the place', facts: { ...CLIENTS, isFromReplayCache: true }, owner: NONE, state: ON_OTHER, gives: replay('resilient', true, 'placed') },
  { row: 26, claim: 'an unknown session is rejected at its place only', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...REJECT }, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'the session of a gone owner continues at its place', facts: CLIENTS, owner: GONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'an id that the policy adopts is adopted at its place', facts: {}, owner: GONE, state: { ...ADOPT, ...ON_OTHER }, gives: replay('resilient', false, 'placed') },
  { row: 27, claim: 'a gone owner is no reason to reject while a peer is unresponsive', facts: {}, owner: GONE_CONTESTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 27, claim: 'an unresponsive peer may have the session of the gone owner', facts: BACK, owner: GONE_CONTESTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 28, claim: 'a gone owner needs no replay: a learned id is rejected immediately', facts: {}, owner: GONE, gives: refuse(404, 'owner-gone') },
  { row: 28, claim: 'a learned id of a gone owner is rejected', facts: BACK, owner: GONE, gives: refuse(404, 'owner-gone') },
  { row: 28, claim: 'a copied id of a gone owner is rejected', facts: BACK, owner: GONE_COPY, gives: refuse(404, 'owner-gone') },
  { row: 28, claim: 'a hinted id of a gone owner is rejected', facts: BACK, owner: GONE_HINT, gives: refuse(404, 'owner-gone') },
  { row: 28, claim: 'a learned id of a gone owner is rejected while draining', facts: BACK, owner: GONE, state: DRAINING, gives: refuse(404, 'owner-gone') },
  { row: 29, claim: 'a soft session of a gone owner is served by another Machine', facts: SOFT, owner: GONE, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'a gone owner needs no replay: an adopted id moves here immediately', facts: {}, owner: GONE_ADOPTED, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'a gone owner needs no replay, and no forward', facts: TOO_LARGE, owner: GONE, state: ADOPT, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'the policy may adopt the sessions of a gone owner', facts: BACK, owner: GONE, state: ADOPT, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'an adopted id of a gone owner moves here', facts: BACK, owner: GONE_ADOPTED, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'a client-minted id moves here', facts: { ...BACK, ...CLIENTS }, owner: GONE_COPY, gives: local('owner-gone', true, OTHER) },
  { row: 30, claim: 'a hint alone leaves no row to move: the id is claimed', facts: BACK, owner: GONE_HINT, state: ADOPT, gives: local('owner-gone', true) },
  { row: 31, claim: 'an unknown session goes elsewhere from a draining Machine', facts: {}, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 31, claim: 'a session with an inconclusive lookup goes elsewhere from a full Machine', facts: {}, owner: INCONCLUSIVE, state: { notAccepting: 'full' }, gives: elsewhere('full') },
  { row: 31, claim: 'an unknown session goes elsewhere before it is rejected', facts: {}, owner: NONE, state: { ...DRAINING, ...REJECT }, gives: elsewhere('draining') },
  { row: 32, claim: 'an unknown session may be rejected', facts: {}, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 33, claim: 'an app does not receive an id that only another app instance can have minted', facts: {}, owner: PEERS_INCONCLUSIVE, gives: refuse(503, 'peers-inconclusive') },
  { row: 33, claim: 'an inconclusive lookup rejects temporarily, not permanently', facts: {}, owner: INCONCLUSIVE, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 34, claim: 'an unknown session that was replayed here may be adopted', facts: REPLAYED, owner: NONE, gives: local('unknown-session', true) },
  { row: 34, claim: 'an unknown session stays on a draining Machine once replayed', facts: REPLAYED, owner: NONE, state: DRAINING, gives: local('unknown-session', true) },
  { row: 35, claim: 'an unknown soft session is never rejected', facts: SOFT, owner: NONE, state: REJECT, gives: local('unknown-session') },
  { row: 35, claim: 'an unknown session is served here', facts: {}, owner: NONE, gives: local('unknown-session') },
  { row: 35, claim: 'an unknown session stays on a draining Machine without peers', facts: {}, owner: NONE, state: { ...DRAINING, ...ALONE }, gives: local('unknown-session') },
  { row: 35, claim: 'an unknown session stays on a draining Machine once it came back', facts: BACK, owner: NONE, state: DRAINING, gives: local('unknown-session') },
  { row: 35, claim: 'an unknown session too large to replay stays on a draining Machine', facts: TOO_LARGE, owner: NONE, state: DRAINING, gives: local('unknown-session') },
  { row: 35, claim: 'an app-minted id has no place', facts: {}, owner: NONE, state: ON_OTHER, gives: local('unknown-session') },
  { row: 36, claim: 'an app-minted id is not adopted after an inconclusive lookup', facts: {}, owner: INCONCLUSIVE, gives: local('peers-inconclusive') },
  { row: 36, claim: 'nothing is adopted after an inconclusive lookup, though replayed here', facts: REPLAYED, owner: INCONCLUSIVE, gives: local('peers-inconclusive') },
  { row: 37, claim: 'a Machine that has just joined places nothing while peers that do not list it yet are unresponsive', facts: CLIENTS, owner: PEERS_INCONCLUSIVE, state: NOT_PROBED, gives: refuse(503, 'peers-inconclusive') },
  { row: 38, claim: 'a request over its source’s query limit is not placed', facts: CLIENTS, owner: SHED, state: ON_OTHER, gives: refuse(503, 'overloaded') },
  { row: 38, claim: 'a request over its source’s query limit opens no session', facts: CLIENTS, owner: SHED, gives: refuse(503, 'overloaded') },
  { row: 39, claim: 'an unknown session of a client-minted id may be rejected', facts: CLIENTS, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 40, claim: 'an inconclusive lookup rejects a client-minted id temporarily, not permanently', facts: CLIENTS, owner: PEERS_INCONCLUSIVE, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 41, claim: 'a client-minted id may be adopted', facts: CLIENTS, owner: NONE, gives: local('unknown-session', true) },
  { row: 41, claim: 'an id that a client may have minted may be adopted', facts: EITHERS, owner: NONE, gives: local('unknown-session', true) },
  { row: 41, claim: 'a session whose first request is in flight here stays, though its place has changed', facts: CLIENTS, owner: BEGUN_HERE, state: { ...DRAINING, ...ON_OTHER }, gives: local('unknown-session', true) },
  { row: 42, claim: 'an inconclusive lookup does not prevent a new session of a client-minted id', facts: CLIENTS, owner: PEERS_INCONCLUSIVE, gives: local('peers-inconclusive', true) },
  { row: 42, claim: 'the app receives an id that client or app may have minted', facts: EITHERS, owner: PEERS_INCONCLUSIVE, gives: local('peers-inconclusive', true) },
];

for (const { row, claim, facts, owner, state, gives } of TABLE) {
  test(`row ${row}: ${claim}`, () => {
    const decided: number[] = [];
    const onRow = (number: number): void => void decided.push(number);
    const decision = decide({ ...FIRST_PASS, ...facts }, owner, { ...TAKING, ...state }, onRow);
    assert.deepEqual([decision, decided], [gives, [row]]);
  });
}

test('every row of the table has a line', () => {
  const numbers = DECISION_ROWS.map(({ number }) => number).filter((number) => number <= 42);
  assert.deepEqual(
    [...new Set(TABLE.map(({ row }) => row))],
    numbers.toSorted((a, b) => a - b),
  );
});

function always(
  claim: string,
  check: (...all: [RoutingFacts, OwnerLookup, MachineState]) => boolean,
): void {
  test(claim, () => {
    fc.assert(fc.property(anyFacts, anyOwner, anyState, check), { numRuns: 2_000 });
  });
}

always(
  'a request that was replayed, came back or is too large is never replayed',
  (facts, owner, state) => {
    const { kind } = decide(facts, owner, state);
    const isReplay = kind === 'replay' || kind === 'elsewhere';
    const isFirstPass =
      !facts.wasReplayed && facts.unmarkedFrom === undefined && !facts.cameBackByFallback;
    const mayReplay = isFirstPass && facts.isReplayable;
    return !isReplay || mayReplay;
  },
);

always('a cacheable replay is bare, and every other replay comes back', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  if (decision.kind !== 'replay' || decision.form !== 'bare') return true;
  const isRunning = owner.kind === 'owner' && owner.liveness === 'running';
  const isFirst = !facts.hasReplaySource && !decision.invalidatesCache;
  return state.replays === 'cacheable' && isRunning && isFirst;
});

always(
  'a session is rejected only once its owner is gone, or all peers have denied it',
  (...all) => {
    const decision = decide(...all);
    if (decision.kind !== 'refuse' || decision.status !== 404) return true;
    const [, owner] = all;
    return owner.kind === 'none' || (owner.kind === 'owner' && owner.liveness === 'gone');
  },
);

always('a request from a peer never leaves this Machine', (facts, owner, state) => {
  const { kind } = decide({ ...facts, from: 'peer' }, owner, state);
  return kind === 'local' || kind === 'refuse';
});

always('no request is sent to this Machine itself', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  return !('to' in decision) || decision.to !== state.self;
});

always(
  'an inconclusive lookup releases nothing, and adopts no app-minted id',
  (facts, _, state) => {
    const decision = decide({ ...facts, from: 'edge', hasId: true }, INCONCLUSIVE, state);
    if (decision.kind === 'refuse') return decision.status !== 404;
    return decision.kind !== 'local' || !decision.mayClaim || facts.mintedBy !== 'app';
  },
);

always('an app’s replay is never claimed', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  return decision.why !== 'app-replay' || (decision.kind === 'local' && !decision.mayClaim);
});

always('a new session is sent to its computed place, or stays here', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  return decision.why !== 'placed' || ('to' in decision && decision.to === state.placedOn);
});

always(
  'a session is taken over only from an owner that is confirmed gone',
  (facts, owner, state) => {
    const decision = decide(facts, owner, state);
    if (decision.kind !== 'local' || decision.takeOverFrom === undefined) return true;
    return owner.kind === 'owner' && owner.liveness === 'gone' && owner.knownBy === 'store';
  },
);

always('every reason is one of the closed set', (facts, owner, state) =>
  WHYS.includes(decide(facts, owner, state).why),
);

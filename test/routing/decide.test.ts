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
const UNSETTLED = { isFleetProbed: false };
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
const SILENT: OwnerLookup = { kind: 'inconclusive', mayBeOurs: true };
/** Our own store has said no. */
const ANOTHERS_SILENT: OwnerLookup = { kind: 'inconclusive', mayBeOurs: false };
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
const MUTE = known(OTHER, { liveness: 'unresponsive', isUncontested: true });
const STOPPED = known(OTHER, { liveness: 'stopped' });
const DETOURED = known(OTHER, { liveness: 'unreachable-from-edge' });
const UNLISTED = known(OTHER, { liveness: 'unlisted', isUncontested: true });
const GONE_CONTESTED = known(OTHER, { liveness: 'gone', origin: 'adopted' });

const local = (why: Decision['why'], mayClaim = false, takeOverFrom?: MachineId): Decision => ({
  ...{ kind: 'local', why, mayClaim: mayClaim },
  ...(takeOverFrom && { takeOverFrom: takeOverFrom }),
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
  { row: 1, claim: 'a peer that is mistaken is told so', facts: PEER, owner: THEIRS, gives: refuse(421, 'moved') },
  { row: 1, claim: 'a peer that is mistaken is told so, though the owner is gone', facts: PEER, owner: GONE, gives: refuse(421, 'moved') },
  { row: 1, claim: 'a peer that is mistaken is told so while draining', facts: PEER, owner: THEIRS, state: DRAINING, gives: refuse(421, 'moved') },
  { row: 1, claim: 'what a peer has placed here and another peer owns is refused', facts: { ...PLACED, ...CLIENTS }, owner: BY_PEERS, gives: refuse(421, 'moved') },
  { row: 2, claim: 'who asks too much is placed nowhere by a peer either', facts: { ...PLACED, ...CLIENTS }, owner: SHED, gives: refuse(503, 'overloaded') },
  { row: 3, claim: 'an unknown session that a peer has placed here may be rejected', facts: { ...PLACED, ...CLIENTS }, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 4, claim: 'and only for a while if another peer is silent', facts: { ...PLACED, ...CLIENTS }, owner: ANOTHERS_SILENT, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 5, claim: 'what a peer has placed here is served and claimed', facts: { ...PLACED, ...CLIENTS }, owner: NONE, gives: local('peer-hop', true) },
  { row: 5, claim: 'what a peer has placed here stays here, whatever this Machine computes', facts: { ...PLACED, ...CLIENTS }, owner: NONE, state: ON_OTHER, gives: local('peer-hop', true) },
  { row: 6, claim: 'what a peer has placed here is claimed though another peer is silent', facts: { ...PLACED, ...CLIENTS }, owner: ANOTHERS_SILENT, gives: { kind: 'local', why: 'peer-hop', mayClaim: true, isInDoubt: true } },
  { row: 7, claim: 'what a peer sends is served, and may be adopted', facts: PEER, owner: NONE, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends is served by its owner', facts: PEER, owner: MINE, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends is served though our store can not tell', facts: PEER, owner: SILENT, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends stays here whatever its hint says', facts: PEER, owner: THEIR_HINT, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends stays here while draining', facts: PEER, owner: NONE, state: DRAINING, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends stays here though unknown sessions are rejected', facts: PEER, owner: NONE, state: REJECT, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends without an id stays here', facts: { ...PEER, ...NO_ID }, owner: NONE, state: DRAINING, gives: local('peer-hop', true) },
  { row: 7, claim: 'what a peer sends for its cookie stays here', facts: { ...PEER, ...NO_ID }, owner: THEIR_COOKIE, gives: local('peer-hop', true) },
  { row: 8, claim: 'an id that clients mint is served and not adopted: no peer was asked', facts: { ...PEER, ...EITHERS }, owner: NONE, gives: local('peer-hop') },
  { row: 9, claim: 'what an app has replayed is served where it arrives', facts: BY_APP_OF_OTHER, owner: THEIRS, gives: local('app-replay') },
  { row: 9, claim: 'whoever owns its session', facts: BY_APP_OF_THIRD, owner: THEIRS, gives: local('app-replay') },
  { row: 9, claim: 'and claims nothing', facts: { ...BY_APP_OF_OTHER, ...CLIENTS }, owner: NONE, gives: local('app-replay') },
  { row: 9, claim: 'and is placed nowhere', facts: { ...BY_APP_OF_OTHER, ...CLIENTS }, owner: NONE, state: ON_OTHER, gives: local('app-replay') },
  { row: 9, claim: 'while draining, too', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: NONE, state: DRAINING, gives: local('app-replay') },
  { row: 9, claim: 'and follows no cookie', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: THEIR_COOKIE, gives: local('app-replay') },
  { row: 9, claim: 'in cacheable mode an unmarked replay from the owner is its app’s', facts: BY_APP_OF_OTHER, owner: THEIRS, state: CACHEABLE, gives: local('app-replay') },
  { row: 9, claim: 'in cacheable mode one from the Machine of the cookie is its app’s', facts: { ...BY_APP_OF_OTHER, ...NO_ID }, owner: THEIR_COOKIE, state: CACHEABLE, gives: local('app-replay') },
  { row: 10, claim: 'a new session goes elsewhere from a draining Machine', facts: NO_ID, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 10, claim: 'a new session goes elsewhere from a full Machine', facts: NO_ID, owner: NONE, state: { notAccepting: 'full' }, gives: elsewhere('full') },
  { row: 10, claim: 'a new session goes elsewhere when the app is down', facts: NO_ID, owner: NONE, state: { notAccepting: 'upstream-down' }, gives: elsewhere('upstream-down') },
  { row: 10, claim: 'a request out of the replay cache may still go elsewhere', facts: { ...NO_ID, isFromReplayCache: true }, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 10, claim: 'a cookie of a Machine that is gone keeps nobody from going elsewhere', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'gone' }, state: DRAINING, gives: elsewhere('draining') },
  { row: 11, claim: 'a request without an id is served here', facts: NO_ID, owner: NONE, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine that is alone serves on', facts: NO_ID, owner: NONE, state: { ...DRAINING, ...ALONE }, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves what was replayed to it', facts: { ...NO_ID, ...REPLAYED }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves what came back', facts: { ...NO_ID, ...BACK }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'a draining Machine serves what is too large to replay', facts: { ...NO_ID, ...TOO_LARGE }, owner: NONE, state: DRAINING, gives: local('no-session') },
  { row: 11, claim: 'where it could not be had, anybody serves', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'where it could not be woken, anybody serves', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'stopped' }, gives: local('no-session') },
  { row: 11, claim: 'what another Machine has sent on is served', facts: { ...NO_ID, ...REPLAYED }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'an upload for a Machine that nobody lists is served', facts: { ...NO_ID, ...TOO_LARGE }, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: local('no-session') },
  { row: 11, claim: 'a cookie of a Machine that is gone is none', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'gone' }, gives: local('no-session') },
  { row: 12, claim: 'a silent owner is not waited for again', facts: REPLAYED, owner: MUTE, gives: refuse(503, 'owner-unreachable') },
  { row: 12, claim: 'what is too large to replay does not wait for a silent owner', facts: TOO_LARGE, owner: MUTE, gives: refuse(503, 'owner-unreachable') },
  { row: 13, claim: 'a session that has moved meanwhile is forwarded', facts: REPLAYED, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'what came back from another Machine than the owner is not replayed again', facts: BACK_FROM_THIRD, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'what came back from another Machine says nothing of a stopped owner', facts: BACK_FROM_THIRD, owner: STOPPED, state: ADOPT, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request is not replayed after a hint either', facts: REPLAYED, owner: THEIR_HINT, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request is not replayed after a peer has spoken either', facts: REPLAYED, owner: BY_PEERS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a replayed request out of the replay cache is not replayed', facts: { ...REPLAYED, isFromReplayCache: true }, owner: THEIRS, gives: forward('moved-since-replay') },
  { row: 13, claim: 'what was replayed before goes to it as to any other', facts: REPLAYED, owner: DETOURED, gives: forward('moved-since-replay') },
  { row: 13, claim: 'a preference for a stopped owner is not replayed a second time', facts: { ...REPLAYED, undeliveredTo: OTHER }, owner: STOPPED, gives: forward('moved-since-replay') },
  { row: 13, claim: 'in cacheable mode one from another Machine is its sidecar’s', facts: BY_APP_OF_THIRD, owner: THEIRS, state: CACHEABLE, gives: forward('moved-since-replay') },
  { row: 14, claim: 'an upload with a cookie for another Machine is forwarded', facts: { ...NO_ID, ...TOO_LARGE }, owner: THEIR_COOKIE, gives: forward('too-large-to-replay') },
  { row: 14, claim: 'what is too large to replay is forwarded', facts: TOO_LARGE, owner: THEIRS, gives: forward('too-large-to-replay') },
  { row: 14, claim: 'what is too large to replay is forwarded after its hint', facts: TOO_LARGE, owner: THEIR_HINT, gives: forward('too-large-to-replay') },
  { row: 15, claim: 'an owner that the edge could not reach just now is forwarded to', facts: {}, owner: DETOURED, gives: forward('detour') },
  { row: 15, claim: 'a Machine of a cookie that the edge could not reach just now is forwarded to', facts: NO_ID, owner: { ...DETOURED, knownBy: 'cookie' }, gives: forward('detour') },
  { row: 16, claim: 'a cookie for another Machine is followed', facts: NO_ID, owner: THEIR_COOKIE, gives: replay() },
  { row: 16, claim: 'a cookie for another Machine is followed while draining', facts: NO_ID, owner: THEIR_COOKIE, state: DRAINING, gives: replay() },
  { row: 16, claim: 'a cookie wakes its Machine', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'stopped' }, gives: replay('waking') },
  { row: 16, claim: 'a cookie for a Machine that nobody lists is tried once', facts: NO_ID, owner: { ...THEIR_COOKIE, liveness: 'unlisted' }, gives: replay('waking') },
  { row: 16, claim: 'another one’s session is replayed to its owner', facts: {}, owner: THEIRS, gives: replay() },
  { row: 16, claim: 'another one’s session is replayed while draining', facts: {}, owner: THEIRS, state: DRAINING, gives: replay() },
  { row: 16, claim: 'a hint is replayed to', facts: {}, owner: THEIR_HINT, gives: replay() },
  { row: 16, claim: 'what a peer said is replayed to', facts: {}, owner: BY_PEERS, gives: replay() },
  { row: 16, claim: 'a stopped owner is woken by the replay', facts: {}, owner: STOPPED, gives: replay('waking') },
  { row: 16, claim: 'an owner that nobody lists may have started just now', facts: {}, owner: UNLISTED, gives: replay('waking') },
  { row: 16, claim: 'an owner that was silent just now is tried briefly', facts: {}, owner: MUTE, gives: replay('brief') },
  { row: 16, claim: 'a preference for another Machine says nothing of the owner', facts: { undeliveredTo: THIRD }, owner: THEIRS, gives: replay() },
  { row: 16, claim: 'a preference wakes nobody: a stopped owner is woken by the replay', facts: { undeliveredTo: OTHER }, owner: STOPPED, gives: replay('waking') },
  { row: 16, claim: 'a preference for an owner that nobody lists is no replay', facts: { undeliveredTo: OTHER }, owner: UNLISTED, gives: replay('waking') },
  { row: 16, claim: 'a replay to a Machine that runs may be kept by the cache', facts: {}, owner: THEIRS, state: CACHEABLE, gives: replay('bare') },
  { row: 16, claim: 'a replay that wakes its Machine must come back', facts: {}, owner: STOPPED, state: CACHEABLE, gives: replay('waking') },
  { row: 16, claim: 'a replay to a Machine that nobody lists must come back', facts: {}, owner: UNLISTED, state: CACHEABLE, gives: replay('waking') },
  { row: 16, claim: 'a replay to a Machine that was silent just now must come back', facts: {}, owner: MUTE, state: CACHEABLE, gives: replay('brief') },
  { row: 16, claim: 'what a router app has replayed is replayed with a mark', facts: { hasReplaySource: true }, owner: THEIRS, state: CACHEABLE, gives: replay() },
  { row: 16, claim: 'what only a peer knows may not be committed yet', facts: {}, owner: BY_PEERS, state: CACHEABLE, gives: replay() },
  { row: 16, claim: 'a wrong entry of the replay cache is undone', facts: { isFromReplayCache: true }, owner: THEIRS, gives: replay('resilient', true) },
  { row: 16, claim: 'what undoes an entry of the replay cache comes back if it fails', facts: { isFromReplayCache: true }, owner: THEIRS, state: CACHEABLE, gives: replay('resilient', true) },
  { row: 17, claim: 'the Machine that a cookie names serves', facts: NO_ID, owner: MY_COOKIE, gives: local('owner') },
  { row: 17, claim: 'the Machine that a cookie names serves while draining', facts: NO_ID, owner: MY_COOKIE, state: DRAINING, gives: local('owner') },
  { row: 18, claim: 'a cookie of a Machine that is silent is kept', facts: { ...NO_ID, ...BACK }, owner: { ...THEIR_COOKIE, liveness: 'unresponsive' }, gives: refuse(503, 'owner-unreachable') },
  { row: 19, claim: 'a cookie of a Machine that runs is followed by the private network', facts: { ...NO_ID, ...BACK }, owner: THEIR_COOKIE, gives: forward('owner-unreachable') },
  { row: 20, claim: 'a lost row is adopted again where the hint says so', facts: {}, owner: MY_HINT, gives: local('owner', true) },
  { row: 20, claim: 'a hint on an id that clients mint is adopted if all the peers said no', facts: EITHERS, owner: known(SELF, { knownBy: 'hint', isUncontested: true }), gives: local('owner', true) },
  { row: 21, claim: 'the owner serves its session', facts: {}, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves its session while draining', facts: {}, owner: MINE, state: DRAINING, gives: local('owner') },
  { row: 21, claim: 'the owner serves what was replayed to it', facts: REPLAYED, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves what came back', facts: BACK, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'the owner serves a body of any size', facts: TOO_LARGE, owner: MINE, gives: local('owner') },
  { row: 21, claim: 'a hint on an id that clients mint adopts nothing', facts: EITHERS, owner: MY_HINT, gives: local('owner') },
  { row: 21, claim: 'in cacheable mode one from another Machine is served by the owner', facts: BY_APP_OF_OTHER, owner: MINE, state: CACHEABLE, gives: local('owner') },
  { row: 22, claim: 'a peer that owns what came back gets it', facts: BACK, owner: BY_PEERS, gives: forward('owner-unreachable') },
  { row: 22, claim: 'a peer that owns what came back gets it, replayed or not', facts: { ...BACK, ...REPLAYED, ...TOO_LARGE }, owner: BY_PEERS, gives: forward('owner-unreachable') },
  { row: 22, claim: 'an owner that runs gets by the private network what the edge could not deliver', facts: BACK, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 22, claim: 'an owner that runs gets it while draining, too', facts: BACK, owner: THEIRS, state: DRAINING, gives: forward('owner-unreachable') },
  { row: 22, claim: 'a hinted owner that runs gets what came back', facts: BACK, owner: THEIR_HINT, gives: forward('owner-unreachable') },
  { row: 22, claim: 'the edge names the owner, or nobody', facts: BACK_FROM_OTHER, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 22, claim: 'a preference for the owner that could not be had is as good as a replay', facts: { undeliveredTo: OTHER }, owner: THEIRS, gives: forward('owner-unreachable') },
  { row: 22, claim: 'what comes back from an owner that is forwarded to anyway is forwarded', facts: BACK, owner: DETOURED, gives: forward('owner-unreachable') },
  { row: 23, claim: 'a preference for the owner that could not be had, and who is silent', facts: { undeliveredTo: OTHER }, owner: MUTE, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that is silent keeps its session', facts: BACK, owner: MUTE, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that is silent keeps its session, whatever the policy', facts: BACK, owner: MUTE, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that is silent keeps an adopted session', facts: { ...BACK, ...CLIENTS }, owner: { ...MUTE, origin: 'adopted' }, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that a hint names and that is silent keeps its session', facts: BACK, owner: { ...MUTE, knownBy: 'hint' }, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that is still waking keeps its session', facts: BACK, owner: STOPPED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 23, claim: 'an owner that nobody lists keeps its session', facts: BACK, owner: UNLISTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 24, claim: 'a body that can not be replayed is forwarded to the place', facts: { ...CLIENTS, ...TOO_LARGE }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 24, claim: 'where another directory has placed it here it is forwarded once', facts: { ...CLIENTS, ...REPLAYED }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 24, claim: 'a place that the edge could not reach is forwarded to', facts: { ...CLIENTS, ...BACK }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 24, claim: 'a preference for the place that could not be had is as good as a replay', facts: { ...CLIENTS, undeliveredTo: OTHER }, owner: NONE, state: ON_OTHER, gives: forward('placed') },
  { row: 24, claim: 'an adopted one of an owner that is gone, too', facts: BACK, owner: GONE_ADOPTED, state: ON_OTHER, gives: forward('placed') },
  { row: 25, claim: 'a new session of a client’s own id goes to its place', facts: CLIENTS, owner: NONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'so does one that either may have minted', facts: EITHERS, owner: NONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'so does one that a silent peer may have', facts: CLIENTS, owner: ANOTHERS_SILENT, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'a draining Machine sends it to its place, and not just elsewhere', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...DRAINING }, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'a replay to a place is never for the cache', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...CACHEABLE }, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'a wrong entry of the cache is undone on the way to the place', facts: { ...CLIENTS, isFromReplayCache: true }, owner: NONE, state: ON_OTHER, gives: replay('resilient', true, 'placed') },
  { row: 25, claim: 'an unknown session is rejected at its place only', facts: CLIENTS, owner: NONE, state: { ...ON_OTHER, ...REJECT }, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'the session of an owner that is gone goes on at its place', facts: CLIENTS, owner: GONE, state: ON_OTHER, gives: replay('resilient', false, 'placed') },
  { row: 25, claim: 'what the policy adopts is adopted at its place', facts: {}, owner: GONE, state: { ...ADOPT, ...ON_OTHER }, gives: replay('resilient', false, 'placed') },
  { row: 26, claim: 'an owner that is gone is no reason to reject while a peer is silent', facts: {}, owner: GONE_CONTESTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 26, claim: 'a silent peer may have what the one that is gone had', facts: BACK, owner: GONE_CONTESTED, state: ADOPT, gives: refuse(503, 'owner-unreachable') },
  { row: 27, claim: 'an owner that is gone needs no replay: a learned id is rejected at once', facts: {}, owner: GONE, gives: refuse(404, 'owner-gone') },
  { row: 27, claim: 'a learned id of an owner that is gone is rejected', facts: BACK, owner: GONE, gives: refuse(404, 'owner-gone') },
  { row: 27, claim: 'a copied id of an owner that is gone is rejected', facts: BACK, owner: GONE_COPY, gives: refuse(404, 'owner-gone') },
  { row: 27, claim: 'a hinted id of an owner that is gone is rejected', facts: BACK, owner: GONE_HINT, gives: refuse(404, 'owner-gone') },
  { row: 27, claim: 'a learned id of an owner that is gone is rejected while draining', facts: BACK, owner: GONE, state: DRAINING, gives: refuse(404, 'owner-gone') },
  { row: 28, claim: 'an owner that is gone needs no replay: an adopted id moves here at once', facts: {}, owner: GONE_ADOPTED, gives: local('owner-gone', true, OTHER) },
  { row: 28, claim: 'an owner that is gone needs no replay, and no forward', facts: TOO_LARGE, owner: GONE, state: ADOPT, gives: local('owner-gone', true, OTHER) },
  { row: 28, claim: 'the policy may adopt what an owner that is gone has left', facts: BACK, owner: GONE, state: ADOPT, gives: local('owner-gone', true, OTHER) },
  { row: 28, claim: 'an adopted id of an owner that is gone moves here', facts: BACK, owner: GONE_ADOPTED, gives: local('owner-gone', true, OTHER) },
  { row: 28, claim: 'an id that its client has minted moves here', facts: { ...BACK, ...CLIENTS }, owner: GONE_COPY, gives: local('owner-gone', true, OTHER) },
  { row: 29, claim: 'a hint alone leaves no row to move: the id is claimed', facts: BACK, owner: GONE_HINT, state: ADOPT, gives: local('owner-gone', true) },
  { row: 30, claim: 'an unknown session goes elsewhere from a draining Machine', facts: {}, owner: NONE, state: DRAINING, gives: elsewhere('draining') },
  { row: 30, claim: 'a session that nobody can tell of goes elsewhere from a full Machine', facts: {}, owner: SILENT, state: { notAccepting: 'full' }, gives: elsewhere('full') },
  { row: 30, claim: 'an unknown session goes elsewhere before it is rejected', facts: {}, owner: NONE, state: { ...DRAINING, ...REJECT }, gives: elsewhere('draining') },
  { row: 31, claim: 'an unknown session may be rejected', facts: {}, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 32, claim: 'an app is not asked for an id that only another can have minted', facts: {}, owner: ANOTHERS_SILENT, gives: refuse(503, 'peers-inconclusive') },
  { row: 32, claim: 'silence rejects for a while, not for good', facts: {}, owner: SILENT, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 33, claim: 'an unknown session that was replayed here may be adopted', facts: REPLAYED, owner: NONE, gives: local('unknown-session', true) },
  { row: 33, claim: 'an unknown session stays on a draining Machine once replayed', facts: REPLAYED, owner: NONE, state: DRAINING, gives: local('unknown-session', true) },
  { row: 34, claim: 'an unknown session is served here', facts: {}, owner: NONE, gives: local('unknown-session') },
  { row: 34, claim: 'an unknown session stays on a draining Machine that is alone', facts: {}, owner: NONE, state: { ...DRAINING, ...ALONE }, gives: local('unknown-session') },
  { row: 34, claim: 'an unknown session stays on a draining Machine once it came back', facts: BACK, owner: NONE, state: DRAINING, gives: local('unknown-session') },
  { row: 34, claim: 'an unknown session too large to replay stays on a draining Machine', facts: TOO_LARGE, owner: NONE, state: DRAINING, gives: local('unknown-session') },
  { row: 34, claim: 'an app’s own id has no place', facts: {}, owner: NONE, state: ON_OTHER, gives: local('unknown-session') },
  { row: 35, claim: 'an app’s id is not adopted on silence', facts: {}, owner: SILENT, gives: local('peers-inconclusive') },
  { row: 35, claim: 'nothing is adopted on silence, though replayed here', facts: REPLAYED, owner: SILENT, gives: local('peers-inconclusive') },
  { row: 36, claim: 'a Machine that has just joined places nothing on the silence of peers that do not know it yet', facts: CLIENTS, owner: ANOTHERS_SILENT, state: UNSETTLED, gives: refuse(503, 'peers-inconclusive') },
  { row: 37, claim: 'who asks too much is placed nowhere', facts: CLIENTS, owner: SHED, state: ON_OTHER, gives: refuse(503, 'overloaded') },
  { row: 37, claim: 'who asks too much begins nothing', facts: CLIENTS, owner: SHED, gives: refuse(503, 'overloaded') },
  { row: 38, claim: 'an unknown session of a client’s own id may be rejected', facts: CLIENTS, owner: NONE, state: REJECT, gives: refuse(404, 'unknown-session') },
  { row: 39, claim: 'silence rejects a session of a client’s own id for a while, not for good', facts: CLIENTS, owner: ANOTHERS_SILENT, state: REJECT, gives: refuse(503, 'peers-inconclusive') },
  { row: 40, claim: 'a client’s own id may be adopted', facts: CLIENTS, owner: NONE, gives: local('unknown-session', true) },
  { row: 40, claim: 'an id that a client may have minted may be adopted', facts: EITHERS, owner: NONE, gives: local('unknown-session', true) },
  { row: 40, claim: 'one whose first request is being served here stays, though its place has changed', facts: CLIENTS, owner: BEGUN_HERE, state: { ...DRAINING, ...ON_OTHER }, gives: local('unknown-session', true) },
  { row: 41, claim: 'silence keeps nobody from a new session of a client’s own id', facts: CLIENTS, owner: ANOTHERS_SILENT, gives: local('peers-inconclusive', true) },
  { row: 41, claim: 'an app is asked for an id that either may have minted', facts: EITHERS, owner: ANOTHERS_SILENT, gives: local('peers-inconclusive', true) },
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
  const numbers = DECISION_ROWS.map(({ number }) => number).filter((number) => number <= 41);
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

always('what was replayed, came back or is too large is never replayed', (facts, owner, state) => {
  const { kind } = decide(facts, owner, state);
  const isReplay = kind === 'replay' || kind === 'elsewhere';
  const isFirstPass =
    !facts.wasReplayed && facts.unmarkedFrom === undefined && !facts.cameBackByFallback;
  const mayReplay = isFirstPass && facts.isReplayable;
  return !isReplay || mayReplay;
});

always('what the cache may keep is bare, and everything else comes back', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  if (decision.kind !== 'replay' || decision.form !== 'bare') return true;
  const isRunning = owner.kind === 'owner' && owner.liveness === 'running';
  const isFirst = !facts.hasReplaySource && !decision.invalidatesCache;
  return state.replays === 'cacheable' && isRunning && isFirst;
});

always(
  'a session is rejected only once its owner is gone, or everybody has denied it',
  (...all) => {
    const decision = decide(...all);
    if (decision.kind !== 'refuse' || decision.status !== 404) return true;
    const [, owner] = all;
    return owner.kind === 'none' || (owner.kind === 'owner' && owner.liveness === 'gone');
  },
);

always('what a peer sends never leaves this Machine', (facts, owner, state) => {
  const { kind } = decide({ ...facts, from: 'peer' }, owner, state);
  return kind === 'local' || kind === 'refuse';
});

always('nothing is sent to this Machine itself', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  return !('to' in decision) || decision.to !== state.self;
});

always('silence gives nothing up, and adopts no id of an app', (facts, _, state) => {
  const decision = decide({ ...facts, from: 'edge', hasId: true }, SILENT, state);
  if (decision.kind === 'refuse') return decision.status !== 404;
  return decision.kind !== 'local' || !decision.mayClaim || facts.mintedBy !== 'app';
});

always('what an app has replayed is claimed by nobody', (facts, owner, state) => {
  const decision = decide(facts, owner, state);
  return decision.why !== 'app-replay' || (decision.kind === 'local' && !decision.mayClaim);
});

always('a new session is placed where it was computed, or stays here', (facts, owner, state) => {
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

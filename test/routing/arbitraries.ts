/** All inputs of a decision. */
import fc from 'fast-check';
import { LIVENESS_STATES } from '../../src/fleet/liveness.ts';
import type { MachineState, OwnerLookup, RoutingFacts } from '../../src/routing/facts.ts';
import type { MachineId } from '../../src/session.ts';

export const SELF = 'aaaa' as MachineId;
export const OTHER = 'bbbb' as MachineId;
export const THIRD = 'cccc' as MachineId;

export const anyFacts: fc.Arbitrary<RoutingFacts> = fc.record({
  from: fc.constantFrom('edge', 'peer'),
  hasId: fc.boolean(),
  mintedBy: fc.constantFrom('app', 'client', 'either'),
  isSoft: fc.boolean(),
  isPlaced: fc.boolean(),
  wasReplayed: fc.boolean(),
  replayedBy: fc.constantFrom(undefined, OTHER),
  unmarkedFrom: fc.constantFrom(undefined, undefined, OTHER, THIRD),
  hasReplaySource: fc.boolean(),
  cameBackByFallback: fc.boolean(),
  undeliveredTo: fc.constantFrom(undefined, SELF, OTHER, THIRD),
  isFromReplayCache: fc.boolean(),
  isReplayable: fc.boolean(),
});
const anyKnown: fc.Arbitrary<OwnerLookup> = fc
  .record({
    machine: fc.constantFrom(SELF, OTHER),
    knownBy: fc.constantFrom('store', 'hint', 'peers', 'cookie'),
    origin: fc.option(fc.constantFrom('learned', 'adopted', 'copied'), { nil: undefined }),
    liveness: fc.constantFrom(...LIVENESS_STATES),
    isUncontested: fc.boolean(),
  })
  .map(({ origin, ...owner }) => ({ kind: 'owner', ...owner, ...(origin && { origin }) }));
export const anyOwner: fc.Arbitrary<OwnerLookup> = fc.oneof(
  anyKnown,
  fc.constantFrom<OwnerLookup[]>(
    { kind: 'none' },
    { kind: 'none', isInFlightHere: true },
    { kind: 'inconclusive', mayBeOurs: true },
    { kind: 'inconclusive', mayBeOurs: false },
    { kind: 'inconclusive', mayBeOurs: false, isShed: true },
  ),
);
export const anyState: fc.Arbitrary<MachineState> = fc.record({
  self: fc.constant(SELF),
  notAccepting: fc.constantFrom(undefined, 'draining', 'full', 'upstream-down'),
  hasOtherMachines: fc.boolean(),
  ownerGone: fc.constantFrom('reject', 'adopt'),
  unknownSession: fc.constantFrom('serve', 'reject'),
  replays: fc.constantFrom('resilient', 'cacheable'),
  placedOn: fc.constantFrom(undefined, SELF, OTHER, THIRD),
  isFleetProbed: fc.boolean(),
});

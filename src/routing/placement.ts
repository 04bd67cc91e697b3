/**
 * The place of a new session whose id its client may have minted: the Machine that wins rendezvous
 * hashing over the candidates. All Machines compute the same place, so clients that arrive together at
 * different Machines end up on one.
 *
 * Candidates are the Machines, including this one, that respond to heartbeats and report that they take
 * sessions; if none does, all that respond.
 */
import type { MachineId, SessionKey } from '../session.ts';
import type { Minter } from '../protocols/protocol.ts';
import type { PlacementCandidate, Liveness } from '../fleet/liveness.ts';
import { rendezvousWinner } from '../fleet/rendezvous.ts';

/**
 * `region`: candidates in this Machine's region first. Ids that an app may mint too usually belong to
 * one client, and stay near it; ids that only clients mint are rooms, shared by clients of all regions.
 */
type PlacementScope = 'region' | 'fleet';

export type Place = (key: SessionKey, mintedBy: Minter) => MachineId;

interface PlacementParts {
  readonly self: MachineId;
  readonly region: string | undefined;
  /** Undefined: depends on who mints the id. */
  readonly scope: PlacementScope | undefined;
  readonly liveness: Pick<Liveness, 'candidates'>;
  readonly takesSessions: () => boolean;
}

export function createPlacement(parts: PlacementParts): Place {
  const { self, region, scope, liveness, takesSessions } = parts;

  function inScope(
    candidates: readonly PlacementCandidate[],
    mintedBy: Minter,
  ): readonly PlacementCandidate[] {
    const applied = scope ?? (mintedBy === 'either' ? 'region' : 'fleet');
    if (applied === 'fleet' || region === undefined) return candidates;
    const near = candidates.filter((candidate) => candidate.region === region);
    return near.length > 0 ? near : candidates;
  }

  return (key, mintedBy) => {
    const responding = [
      { machine: self, region, takesSessions: takesSessions() },
      ...liveness.candidates(),
    ];
    const taking = responding.filter((candidate) => candidate.takesSessions);
    const candidates = inScope(taking.length > 0 ? taking : responding, mintedBy);
    return (
      rendezvousWinner(
        key,
        candidates.map(({ machine }) => machine),
      ) ?? self
    );
  };
}

/*
 * Whether this Machine takes new sessions. The operator and signals change it.
 *
 *   taking <---undrain--- drained
 *      |   ----drain---->    |
 *      |                     |
 *      +-------signal--------+-----> ending: for good
 */

export type DrainState = 'taking' | 'drained' | 'ending';

export interface Draining {
  state(): DrainState;
  /** On the operator's request: no new sessions here. Returns whether that changed the state. */
  drain(): boolean;
  /** Undoes {@link drain}, but not a signal. Returns whether that changed the state. */
  undrain(): boolean;
  /** On a signal: this Machine is about to stop. */
  end(): void;
}

export function createDraining(): Draining {
  let state: DrainState = 'taking';

  const change = (from: DrainState, to: DrainState): boolean => {
    if (state !== from) return false;
    state = to;
    return true;
  };

  return {
    state: () => state,
    drain: () => change('taking', 'drained'),
    undrain: () => change('drained', 'taking'),
    end: () => void (state = 'ending'),
  };
}

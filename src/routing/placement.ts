/**
 * Where a new session of an id goes that its client may have minted: to the Machine that wins
 * rendezvous hashing over the candidates. All Machines compute the same, so clients that arrive
 * together at different Machines meet.
 *
 * Candidates are the Machines that answer their heartbeats and say that they take sessions; if none
 * takes any, all that answer; this Machine is one of them.
 */
import type { MachineId, SessionKey } from '../session.ts';
import type { Minter } from '../protocols/protocol.ts';
import type { PlacementCandidate, Liveness } from '../fleet/liveness.ts';
import { rendezvousWinner } from '../fleet/rendezvous.ts';

/**
 * `region`: candidates of this Machine's own region first. Ids that an app may mint too are private to
 * one client, as a rule, and stay near it; a client's own are rooms that clients of all regions share.
 */
export type PlacementScope = 'region' | 'fleet';

export type Place = (key: SessionKey, mintedBy: Minter) => MachineId;

export interface PlacementParts {
  readonly self: MachineId;
  readonly region: string | undefined;
  /** Undefined: by who mints the id. */
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
    const answering = [
      { machine: self, region, takesSessions: takesSessions() },
      ...liveness.candidates(),
    ];
    const taking = answering.filter((candidate) => candidate.takesSessions);
    const candidates = inScope(taking.length > 0 ? taking : answering, mintedBy);
    return (
      rendezvousWinner(
        key,
        candidates.map(({ machine }) => machine),
      ) ?? self
    );
  };
}

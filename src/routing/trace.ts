/** The steps to a decision. Each is reported to an observer by the function that takes it. */
import type { LivenessState } from '../fleet/liveness.ts';
import type { PeerLookup } from '../fleet/peers.ts';
import type { RequestHead } from '../protocols/heads.ts';
import { createIdReaders } from '../protocols/id-locations.ts';
import type { RequestIds } from '../protocols/request-ids.ts';
import { sessionKeyOf, type MachineId, type SessionKey } from '../session.ts';
import type { Decision } from './decision.ts';
import type { MachineState, OwnerLookup, RoutingFacts } from './facts.ts';

/** A session is shown as its key, never as its id (invariant 5). */
export type Step =
  | { readonly step: 'request'; readonly is: 'well-formed' | 'malformed' }
  | { readonly step: 'session'; readonly found: 'none' | 'conflict' }
  | {
      readonly step: 'session';
      readonly found: 'id';
      readonly key: SessionKey;
      readonly protocol: string;
      readonly in: string;
      readonly name?: string;
      readonly hint?: MachineId;
    }
  | {
      readonly step: 'store';
      readonly key: SessionKey;
      readonly result: 'absent' | 'unknown' | object;
    }
  | {
      readonly step: 'peers';
      readonly key: SessionKey;
      readonly each: Readonly<Record<string, 'mine' | 'no' | 'unknown'>>;
      readonly result: PeerLookup;
    }
  | { readonly step: 'directory'; readonly machine: MachineId; readonly liveness: LivenessState }
  | { readonly step: 'directory-refresh'; readonly foundNewcomer: boolean | undefined }
  | { readonly step: 'owner'; readonly owner: OwnerLookup }
  | { readonly step: 'facts'; readonly facts: RoutingFacts }
  | { readonly step: 'state'; readonly state: MachineState }
  | { readonly step: 'decision'; readonly row: number | undefined; readonly decision: Decision };

/** Receives each step when it is taken. */
export interface Tracer {
  readonly take: (step: Step) => void;
  /** The request is only explained: its steps write nothing and cache no responses of peers. */
  readonly isDryRun: boolean;
}

/** Undefined for the requests of clients, unless each step is logged. */
export type Trace = Tracer | undefined;

export function sessionStep(head: RequestHead, ids: RequestIds): Step {
  if (ids.kind !== 'found') return { step: 'session', found: ids.kind };
  const { id, hint, protocol } = ids;
  const reader = createIdReaders([protocol]).find(({ read }) => read(head) !== undefined);
  const location = reader?.location ?? { in: 'unknown' };
  return {
    step: 'session',
    found: 'id',
    key: sessionKeyOf(id),
    protocol: protocol.name,
    in: location.in,
    ...('name' in location && { name: location.name }),
    ...(hint !== undefined && { hint }),
  };
}

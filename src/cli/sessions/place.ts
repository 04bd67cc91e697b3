/** Where the sessions are that a command is about: behind a running sidecar, or in the store itself. */
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import type { MergeCounts } from '../../sessions/merge.ts';
import type { Selection } from '../../sessions/select.ts';

/** Every method rejects with a sentence for the operator. */
export interface SessionBackend {
  /** For people: without credentials. */
  readonly name: string;
  readonly entries: (selection: Selection) => AsyncIterable<Binding>;
  readonly find: (key: SessionKey) => Promise<Binding | undefined>;
  /** False if it is not there, or not that Machine's. */
  readonly remove: (key: SessionKey, ifOwner?: MachineId) => Promise<boolean>;
  /** Of so many at once. No key twice. */
  readonly merge: (bindings: readonly Binding[], isDryRun: boolean) => Promise<MergeCounts>;
  readonly mergedAtOnce: number;
  readonly close: () => Promise<void>;
}

export interface BackendParts {
  readonly clock: Clock;
  readonly random: () => number;
  /** For the operator, a sentence. */
  readonly tell: (message: string) => void;
  /** Whether a file that is not there is to be made. */
  readonly mayCreate: boolean;
}

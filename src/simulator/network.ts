/**
 * The faults in the network of a simulation: cut and slow lines, failing resolvers. Each can be undone,
 * separately or all at once.
 */
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { WHOLE_LINE, type Line } from './line.ts';
import type { NetworkMachine } from './zone.ts';

/** Between the edge and a Machine, one way covers both directions; between two Machines, each direction is separate. */
interface Way {
  readonly from: 'edge' | 'machines' | MachineId;
  readonly to: 'machines' | MachineId;
}

/** `refuse`: new connections fail, open ones stay. `hang`: nothing gets through, without an error. */
type CutName = 'refuse' | 'hang';

/**
 * `silent`: no response. `failing`: SERVFAIL. `stale`: the responses stay as they were when the fault
 * started.
 */
type ResolverFault = 'silent' | 'failing' | 'stale';

/** Removes the fault. A second call does nothing. */
export type Undo = () => void;

export interface Network {
  cut(way: Way, how?: CutName): Undo;
  /** Both ways between two Machines. */
  cutBetween(one: MachineId, other: MachineId, how?: CutName): Undo;
  /** From the edge and from all other Machines, and to them. */
  isolate(machine: MachineId, how?: CutName): Undo;
  /** Delays everything that passes, requests and responses. */
  delay(way: Way, ms: number): Undo;
  /** For the queries of one Machine, or of all. */
  breakResolver(fault: ResolverFault, client?: MachineId): Undo;
  /** Removes all faults. */
  heal(): void;
}

export type ResolverState =
  | { readonly kind: 'responding' }
  | { readonly kind: 'silent' }
  | { readonly kind: 'failing' }
  | { readonly kind: 'stale'; readonly machines: readonly NetworkMachine[] };

export interface NetworkFaults extends Network {
  readonly line: (from: 'edge' | MachineId, to: MachineId) => Line;
  /** `client`: undefined outside a Machine; then only faults for all Machines apply. */
  resolver(client: MachineId | undefined): ResolverState;
  /** Removes all faults, and ends the delays in progress. */
  close(): void;
}

interface Cut extends Way {
  readonly how: CutName;
}

interface Delay extends Way {
  readonly ms: number;
}

interface BrokenResolver {
  readonly client: MachineId | undefined;
  readonly state: ResolverState;
}

const RESPONDING: ResolverState = { kind: 'responding' };

export function createNetwork(
  machines: () => readonly NetworkMachine[],
  clock: Clock,
): NetworkFaults {
  return new FaultyNetwork(machines, clock);
}

class FaultyNetwork implements NetworkFaults {
  readonly #machines: () => readonly NetworkMachine[];
  readonly #clock: Clock;
  readonly #cuts = new Set<Cut>();
  readonly #delays = new Set<Delay>();
  readonly #brokenResolvers = new Set<BrokenResolver>();
  readonly #closing = new AbortController();
  #change = Promise.withResolvers<undefined>();

  constructor(machines: () => readonly NetworkMachine[], clock: Clock) {
    this.#machines = machines;
    this.#clock = clock;
  }

  readonly cut: Network['cut'] = (way, how = 'hang') => this.#add(this.#cuts, { ...way, how });

  readonly cutBetween: Network['cutBetween'] = (one, other, how) =>
    together([this.cut({ from: one, to: other }, how), this.cut({ from: other, to: one }, how)]);

  readonly isolate: Network['isolate'] = (machine, how) =>
    together([
      this.cut({ from: 'edge', to: machine }, how),
      this.cut({ from: 'machines', to: machine }, how),
      this.cut({ from: machine, to: 'machines' }, how),
    ]);

  readonly delay: Network['delay'] = (way, ms) => this.#add(this.#delays, { ...way, ms });

  readonly breakResolver: Network['breakResolver'] = (fault, client) => {
    const state: ResolverState =
      fault === 'stale'
        ? { kind: 'stale', machines: this.#machines().map(copyOf) }
        : { kind: fault };
    return this.#add(this.#brokenResolvers, { client, state });
  };

  /** The latest fault applies. */
  readonly resolver: NetworkFaults['resolver'] = (client) => {
    const found = [...this.#brokenResolvers].filter(
      (broken) => broken.client === undefined || broken.client === client,
    );
    return found.at(-1)?.state ?? RESPONDING;
  };

  readonly line: NetworkFaults['line'] = (from, to) => {
    const state = (): ReturnType<Line['state']> => this.#stateOf(from, to);
    const delayMs = (): number => this.#delayMsOf(from, to);
    return {
      state,
      delayMs,
      notSilent: async (signal) => {
        while (state() === 'silent' && !signal?.aborted) {
          await Promise.race([this.#change.promise, ...(signal ? [untilAborted(signal)] : [])]);
        }
      },
      delayed: (signal) => {
        const signals = signal ? [signal, this.#closing.signal] : [this.#closing.signal];
        return delayMs() > 0
          ? this.#clock.sleep(delayMs(), AbortSignal.any(signals))
          : WHOLE_LINE.delayed();
      },
    };
  };

  readonly heal = (): void => {
    for (const faults of [this.#cuts, this.#delays, this.#brokenResolvers]) faults.clear();
    this.#reportChange();
  };

  readonly close = (): void => {
    this.heal();
    this.#closing.abort();
  };

  #stateOf(from: 'edge' | MachineId, to: MachineId): ReturnType<Line['state']> {
    const found = [...this.#cuts].filter((cut) => concerns(cut, from, to));
    if (found.some(({ how }) => how === 'hang')) return 'silent';
    return found.length > 0 ? 'refusing' : 'whole';
  }

  #delayMsOf(from: 'edge' | MachineId, to: MachineId): number {
    const found = [...this.#delays].filter((delay) => concerns(delay, from, to));
    return found.reduce((sum, { ms }) => sum + ms, 0);
  }

  #add<Fault>(faults: Set<Fault>, fault: Fault): Undo {
    faults.add(fault);
    this.#reportChange();
    return () => {
      if (faults.delete(fault)) this.#reportChange();
    };
  }

  #reportChange(): void {
    this.#change.resolve(undefined);
    this.#change = Promise.withResolvers();
  }
}

function concerns(way: Way, from: 'edge' | MachineId, to: MachineId): boolean {
  const isFrom = way.from === from || (way.from === 'machines' && from !== 'edge');
  return isFrom && (way.to === to || way.to === 'machines');
}

function together(undos: readonly Undo[]): Undo {
  return () => {
    for (const undo of undos) undo();
  };
}

/** A snapshot: the state of a Machine changes. */
function copyOf({
  id,
  app,
  region,
  processGroup,
  state,
  peerPort,
}: NetworkMachine): NetworkMachine {
  return { id, app, region, processGroup, state, peerPort };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

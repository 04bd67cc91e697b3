/**
 * What is wrong with the network of a simulation: cut and slow lines, resolvers that fail. Everything
 * can be undone, one by one or all at once.
 */
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { WHOLE_LINE, type Line } from './line.ts';
import type { NetworkMachine } from './zone.ts';

/** Between the edge and a Machine both ways are one; between two Machines each way is its own. */
export interface Way {
  readonly from: 'edge' | 'machines' | MachineId;
  readonly to: 'machines' | MachineId;
}

/** `refuse`: new connections fail, open ones stay. `hang`: nothing comes through, and nobody is told. */
export type CutName = 'refuse' | 'hang';

/**
 * `silent`: no answer. `failing`: SERVFAIL. `stale`: it goes on to answer what was true when this
 * began.
 */
export type ResolverTrouble = 'silent' | 'failing' | 'stale';

/** Mends it. Calling it twice does nothing. */
export type Undo = () => void;

export interface Network {
  cut(way: Way, how?: CutName): Undo;
  /** Both ways between two Machines. */
  cutBetween(one: MachineId, other: MachineId, how?: CutName): Undo;
  /** From the edge and from all other Machines, and to them. */
  isolate(machine: MachineId, how?: CutName): Undo;
  /** Everything that passes is so much later, an answer as well as a request. */
  delay(way: Way, ms: number): Undo;
  /** For the Machine that asks, or for all of them. */
  disturbResolver(trouble: ResolverTrouble, asker?: MachineId): Undo;
  /** Mends everything. */
  heal(): void;
}

export type ResolverState =
  | { readonly kind: 'answering' }
  | { readonly kind: 'silent' }
  | { readonly kind: 'failing' }
  | { readonly kind: 'stale'; readonly machines: readonly NetworkMachine[] };

export interface NetworkFaults extends Network {
  readonly line: (from: 'edge' | MachineId, to: MachineId) => Line;
  /** Undefined for who is no Machine: only what concerns all concerns it. */
  resolver(asker: MachineId | undefined): ResolverState;
  /** Mends everything, and ends the delays that are under way. */
  close(): void;
}

interface Cut extends Way {
  readonly how: CutName;
}

interface Delay extends Way {
  readonly ms: number;
}

interface Disturbance {
  readonly asker: MachineId | undefined;
  readonly state: ResolverState;
}

const ANSWERING: ResolverState = { kind: 'answering' };

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
  readonly #disturbances = new Set<Disturbance>();
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

  readonly disturbResolver: Network['disturbResolver'] = (trouble, asker) => {
    const state: ResolverState =
      trouble === 'stale'
        ? { kind: 'stale', machines: this.#machines().map(copyOf) }
        : { kind: trouble };
    return this.#add(this.#disturbances, { asker, state });
  };

  /** The latest disturbance counts. */
  readonly resolver: NetworkFaults['resolver'] = (asker) => {
    const found = [...this.#disturbances].filter(
      (disturbance) => disturbance.asker === undefined || disturbance.asker === asker,
    );
    return found.at(-1)?.state ?? ANSWERING;
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
    for (const faults of [this.#cuts, this.#delays, this.#disturbances]) faults.clear();
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

/** As it is now: a Machine's state changes. */
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

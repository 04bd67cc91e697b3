/** Several requests that travel through a fleet at the same time, and what is left when all has been delivered. */
import type { RequestHead } from '../../../src/protocols/heads.ts';
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { createTestClock, type TestClock } from '../../support/clock.ts';
import { sendThroughEdge } from './edge.ts';
import {
  createFleetMachine,
  type FleetMachine,
  type FleetParts,
  type FleetRow,
  type FleetScript,
} from './fleet-machine.ts';
import { TTL_MS } from './machine.ts';
import { Steps, type Order } from './steps.ts';
import { Way, type Answer } from './way.ts';

export interface Sent {
  readonly at: MachineId;
  readonly head: RequestHead;
}

export interface FleetWorld {
  readonly machines: readonly FleetScript[];
  readonly rows: readonly FleetRow[];
  readonly requests: readonly Sent[];
  readonly order: Order;
  readonly isStoreShared: boolean;
  readonly duplicates: boolean;
  readonly hints: boolean;
}

/** One request, and what has become of it. */
export interface Went {
  readonly sent: Sent;
  readonly way: Way;
  readonly answer: Answer;
  /** Machines that have served it though their store said that somebody else owns it. */
  readonly servedInSpite: readonly MachineId[];
}

/** How often heartbeats are exchanged until everything that is owed has certainly been told. */
const ROUNDS = 3;
/** Longer than a peer is left alone that has not answered, in ms. */
const ROUND_MS = 6_000;
/** The rows of the start are older than what the requests bring about, in ms. */
const AGE_MS = 20_000;

export class Fleet {
  readonly machines: ReadonlyMap<MachineId, FleetMachine>;
  readonly steps: Steps;
  readonly #clock: TestClock;
  #isHealed = false;

  private constructor(world: FleetWorld, clock: TestClock) {
    const machines = new Map<MachineId, FleetMachine>();
    this.#clock = clock;
    this.steps = new Steps(world.order, clock);
    this.machines = machines;
    const limits = { maxSessions: 1_000, maxAgeMs: 0 };
    const parts: FleetParts = {
      clock,
      steps: this.steps,
      hints: world.hints,
      duplicates: world.duplicates,
      shared: world.isStoreShared ? createMemoryStore({ clock, limits }) : undefined,
      isUp: (machine) => this.#isUp(machine),
      serviceOf: (machine) => machines.get(machine)?.service,
    };
    for (const script of world.machines)
      machines.set(script.machine, createFleetMachine(script, parts));
  }

  static async open(world: FleetWorld): Promise<Fleet> {
    const clock = createTestClock();
    const fleet = new Fleet(world, clock);
    for (const { on, ...row } of world.rows)
      await fleet.#machine(on).memory.upsert({ ...row, ttlMs: TTL_MS });
    if (world.rows.length > 0) await clock.advance(AGE_MS);
    if (!world.isStoreShared) fleet.#announceRows(world.rows);
    return fleet;
  }

  /** What each Machine owns it has announced just now: some of it is under way, or owed. */
  #announceRows(rows: readonly FleetRow[]): void {
    for (const { on, machine, key } of rows) {
      const { memory, peers } = this.#machine(on);
      const row = memory.lookup(key);
      if (machine === on && typeof row === 'object') peers.announce(row, TTL_MS);
    }
  }

  /** Sends these at once; rejects if one of them gets no answer. */
  async send(requests: readonly Sent[]): Promise<Went[]> {
    const went: Went[] = [];
    const all = Promise.all(
      requests.map(async (sent) => void went.push(await this.#sendOne(sent))),
    ).catch((error: unknown) => void failures.push(error));
    const failures: unknown[] = [];
    await this.steps.run(() => went.length === requests.length || failures.length > 0);
    await all;
    if (failures.length > 0) throw failures[0];
    return went;
  }

  /** Everything works, everybody knows everybody, and all that was to be said has arrived. */
  async deliverEverything(): Promise<void> {
    this.#isHealed = true;
    this.steps.beTimely();
    const ids = [...this.machines.keys()];
    for (const [machine, of] of this.machines) of.heal(ids.filter((other) => other !== machine));
    for (let round = 0; round < ROUNDS; round += 1) {
      await this.#clock.advance(ROUND_MS);
      let unanswered = ids.length * (ids.length - 1);
      for (const [machine, of] of this.machines)
        for (const other of ids)
          if (other !== machine)
            void of.peers.sendHeartbeat(other, of.status()).then(() => (unanswered -= 1));
      await this.steps.run(() => unanswered === 0);
    }
  }

  async close(): Promise<void> {
    let open = this.machines.size;
    for (const machine of this.machines.values()) void machine.settled().then(() => (open -= 1));
    await this.steps.run(() => open === 0);
  }

  /** Rows of every store, by Machine; a store that is shared is seen by each of them. */
  async rows(): Promise<Map<MachineId, Binding[]>> {
    const all = new Map<MachineId, Binding[]>();
    for (const [machine, { memory }] of this.machines) {
      const rows: Binding[] = [];
      for await (const row of memory.entries()) rows.push(row);
      all.set(machine, rows);
    }
    return all;
  }

  #isUp(machine: MachineId): boolean {
    return this.#isHealed || this.#machine(machine).script.answersPeers;
  }

  #machine(machine: MachineId): FleetMachine {
    const found = this.machines.get(machine);
    if (!found) throw new Error(`there is no ${machine}`);
    return found;
  }

  async #sendOne(sent: Sent): Promise<Went> {
    const servedInSpite: MachineId[] = [];
    const step = (label: string): Promise<void> => this.steps.pass(label);
    const way = new Way(
      (from, to) => this.#reach(from, to),
      step,
      (machine, key, { why }) => {
        const isInSpite = why !== 'app-replay' && this.#machine(machine).knowsElsewhere(key);
        if (isInSpite) servedInSpite.push(machine);
      },
    );
    const edge = {
      machines: this.#reachableMachines(),
      first: sent.at,
      fallbackTo: sent.at,
      stripsForged: true,
      followsApps: true,
    };
    return { sent, way, servedInSpite, answer: await sendThroughEdge(edge, way, sent.head) };
  }

  #reachableMachines(): ReadonlyMap<MachineId, FleetMachine> {
    if (!this.#isHealed) return this.machines;
    const entries = [...this.machines].map(([machine, of]) => {
      const script = { ...of.script, isReachable: true };
      return [machine, { ...of, script }] as const;
    });
    return new Map(entries);
  }

  /** A Machine takes forwards only of those whom its own directory lists. */
  #reach(from: MachineId, to: MachineId): FleetMachine | undefined {
    const peer = this.machines.get(to);
    const takes = this.#isUp(to) && peer?.liveness.peer(from) !== undefined;
    return takes ? peer : undefined;
  }
}

/** The Machines that own a key by their own stores. */
export function ownersOf(rows: ReadonlyMap<MachineId, readonly Binding[]>, key: SessionKey) {
  const owners = [...rows].flatMap(([machine, of]) =>
    of.some((row) => row.key === key && row.machine === machine) ? [machine] : [],
  );
  return [...new Set(owners)];
}

/** Several concurrent requests through a fleet, and the state of the fleet after everything is delivered. */
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
import { RequestFlow, type ModelResponse } from './request-flow.ts';

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

/** One request and its outcome. */
export interface FleetOutcome {
  readonly sent: Sent;
  readonly flow: RequestFlow;
  readonly response: ModelResponse;
  /** Machines that served the request although their store named another owner. */
  readonly servedDespiteOwner: readonly MachineId[];
}

/** Rounds of heartbeats that are enough to deliver every pending announcement. */
const ROUNDS = 3;
/** Longer than the pause before an unresponsive peer is tried again, in ms. */
const ROUND_MS = 6_000;
/** The initial rows are older than the ones that the requests create, in ms. */
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

  /** Each Machine announces its own rows: some announcements are in flight or pending when the test starts. */
  #announceRows(rows: readonly FleetRow[]): void {
    for (const { on, machine, key } of rows) {
      const { memory, peers } = this.#machine(on);
      const row = memory.lookup(key);
      if (machine === on && typeof row === 'object') peers.announce(row, TTL_MS);
    }
  }

  /** Sends these requests concurrently. Rejects if one of them gets no response. */
  async send(requests: readonly Sent[]): Promise<FleetOutcome[]> {
    const outcomes: FleetOutcome[] = [];
    const all = Promise.all(
      requests.map(async (sent) => void outcomes.push(await this.#sendOne(sent))),
    ).catch((error: unknown) => void failures.push(error));
    const failures: unknown[] = [];
    await this.steps.run(() => outcomes.length === requests.length || failures.length > 0);
    await all;
    if (failures.length > 0) throw failures[0];
    return outcomes;
  }

  /** Repairs all faults, makes all Machines known to each other, and delivers every message. */
  async deliverEverything(): Promise<void> {
    this.#isHealed = true;
    this.steps.stopDelays();
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
    for (const machine of this.machines.values()) void machine.idle().then(() => (open -= 1));
    await this.steps.run(() => open === 0);
  }

  /** Rows of every store, by Machine. A shared store appears once for each Machine. */
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

  async #sendOne(sent: Sent): Promise<FleetOutcome> {
    const servedDespiteOwner: MachineId[] = [];
    const step = (label: string): Promise<void> => this.steps.pass(label);
    const flow = new RequestFlow(
      (from, to) => this.#reach(from, to),
      step,
      (machine, key, { why }) => {
        const isElsewhere = why !== 'app-replay' && this.#machine(machine).knowsOtherOwner(key);
        if (isElsewhere) servedDespiteOwner.push(machine);
      },
    );
    const edge = {
      machines: this.#reachableMachines(),
      first: sent.at,
      fallbackTo: sent.at,
      stripsForged: true,
      followsApps: true,
    };
    return {
      sent,
      flow,
      servedDespiteOwner,
      response: await sendThroughEdge(edge, flow, sent.head),
    };
  }

  #reachableMachines(): ReadonlyMap<MachineId, FleetMachine> {
    if (!this.#isHealed) return this.machines;
    const entries = [...this.machines].map(([machine, of]) => {
      const script = { ...of.script, isReachable: true };
      return [machine, { ...of, script }] as const;
    });
    return new Map(entries);
  }

  /** A Machine accepts forwards only from peers that its directory lists. */
  #reach(from: MachineId, to: MachineId): FleetMachine | undefined {
    const peer = this.machines.get(to);
    const accepts = this.#isUp(to) && peer?.liveness.peer(from) !== undefined;
    return accepts ? peer : undefined;
  }
}

/** The Machines that own a key by their own stores. */
export function ownersOf(rows: ReadonlyMap<MachineId, readonly Binding[]>, key: SessionKey) {
  const owners = [...rows].flatMap(([machine, of]) =>
    of.some((row) => row.key === key && row.machine === machine) ? [machine] : [],
  );
  return [...new Set(owners)];
}

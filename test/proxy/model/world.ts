/** Several Machines behind the edge, and one request through them. */
import type { RequestHead } from '../../../src/protocols/heads.ts';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import { sendThroughEdge, type Edge } from './edge.ts';
import {
  createModelMachine,
  type MachineScript,
  type ModelMachine,
  type Surroundings,
} from './machine.ts';
import { RequestFlow, type ModelResponse } from './request-flow.ts';

export interface WorldScript
  extends Omit<Surroundings, 'isGone' | 'isDraining' | 'reach'>, Omit<Edge, 'machines'> {
  readonly machines: readonly MachineScript[];
  readonly request: RequestHead;
}

/** Every row of every store. */
export type Rows = ReadonlyMap<MachineId, ReadonlyMap<SessionKey, Binding>>;

export interface RequestOutcome {
  readonly machines: ReadonlyMap<MachineId, ModelMachine>;
  readonly flow: RequestFlow;
  readonly response: ModelResponse;
  readonly before: Rows;
  /** Taken when all effects of the request are stored, announced and received. */
  readonly after: Rows;
}

/** Far more turns of the event loop than any response takes. */
const MAX_TURNS = 1_000;

/** Rejects if the request gets no response. */
export async function sendRequest(script: WorldScript): Promise<RequestOutcome> {
  const machines = await openMachines(script);
  const before = await rowsOf(machines);
  const flow = new RequestFlow(reachIn(machines));
  const response = await withinTurns(
    sendThroughEdge({ ...script, machines }, flow, script.request),
  );
  for (const machine of machines.values()) await machine.idle();
  return { machines, flow, response, before, after: await rowsOf(machines) };
}

export type Machines = ReadonlyMap<MachineId, ModelMachine>;

export function reachIn(machines: Machines): Surroundings['reach'] {
  return (from, to) => {
    const peer = machines.get(to);
    // A Machine responds only to peers that its directory lists.
    return peer?.script.answersPeers && peer.script.lists.includes(from) ? peer : undefined;
  };
}

export async function openMachines(script: WorldScript): Promise<Machines> {
  const machines = new Map<MachineId, ModelMachine>();
  const reach = reachIn(machines);
  const gone = new Set(script.machines.filter(({ isGone }) => isGone).map((of) => of.machine));
  const draining = new Set(
    script.machines.filter(({ isDraining }) => isDraining).map((of) => of.machine),
  );
  const surroundings = {
    ...script,
    reach,
    isGone: (machine: MachineId) => gone.has(machine),
    isDraining: (machine: MachineId) => draining.has(machine),
  };
  for (const one of script.machines) {
    machines.set(one.machine, await createModelMachine(one, surroundings));
  }
  return machines;
}

async function withinTurns<Value>(work: Promise<Value>): Promise<Value> {
  const wait = { isOver: false };
  const turns = async (): Promise<never> => {
    for (let turn = 0; turn < MAX_TURNS && !wait.isOver; turn += 1) await nextTurn();
    throw new Error('the request got no response');
  };
  return Promise.race([work.finally(() => (wait.isOver = true)), turns()]);
}

export async function rowsOf(machines: Machines): Promise<Rows> {
  const all = new Map<MachineId, Map<SessionKey, Binding>>();
  for (const [machine, { store }] of machines) {
    const rows = new Map<SessionKey, Binding>();
    for await (const row of store.entries()) rows.set(row.key, row);
    all.set(machine, rows);
  }
  return all;
}

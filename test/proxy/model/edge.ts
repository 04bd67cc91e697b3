/**
 * The edge: delivers a request, follows what a sidecar tells it to replay, and takes the request
 * back where that fails (FLY-FACTS, "fly-replay").
 */
import type { RequestHead } from '../../../src/affinity/extract.ts';
import type { MachineId } from '../../../src/affinity/session.ts';
import {
  formatReplayFailure,
  formatReplaySource,
  parseReplay,
  type ReplayInstruction,
} from '../../../src/fly.ts';
import { headerValue } from '../../../src/proxy/edge-fields.ts';
import type { ModelMachine } from './machine.ts';
import { type Answer, type Way } from './way.ts';

export interface Edge {
  readonly machines: ReadonlyMap<MachineId, ModelMachine>;
  readonly first: MachineId;
  /** Where `prefer_self` ends if the Machine that has asked for it can't be reached. */
  readonly fallbackTo: MachineId;
  /** Whether it takes away what a client has written in its name. That is not documented. */
  readonly stripsForged: boolean;
}

interface Delivery {
  readonly to: ModelMachine;
  readonly head: RequestHead;
}

/** Fly Proxy gives up after so many (`PA02`). */
const MAX_REPLAYS = 10;
const FAILED: Answer = {
  by: 'edge',
  machine: undefined,
  status: 503,
  rawHeaders: [],
  decision: undefined,
};

export async function sendThroughEdge(edge: Edge, way: Way, request: RequestHead): Promise<Answer> {
  const to = reachable(edge, edge.first);
  const head = edge.stripsForged ? withoutForged(request) : request;
  let next: Delivery | undefined = to && { to, head };
  while (next && way.replayed.length <= MAX_REPLAYS) {
    const { to, head }: Delivery = next;
    const answer = await way.visit(to, head, 'edge');
    const instruction = instructionIn(answer);
    if (!instruction) return answer;
    way.replayed.push(head);
    next = follow(edge, instruction, head, to.script.machine);
  }
  return FAILED;
}

/** An app may tell the edge to replay too, but that is the end of our part in it. */
function instructionIn({ by, rawHeaders }: Answer): ReplayInstruction | undefined {
  if (by !== 'sidecar') return undefined;
  return parseReplay(headerValue(rawHeaders, 'fly-replay') ?? '');
}

function follow(
  edge: Edge,
  instruction: ReplayInstruction,
  head: RequestHead,
  issuer: MachineId,
): Delivery | undefined {
  const target = targetOf(edge, instruction, issuer);
  if (target) {
    const source = formatReplaySource({
      ...{ instance: issuer, region: 'ams', timestampMicros: 1 },
      ...(instruction.state !== undefined && { state: instruction.state }),
    });
    return { to: target, head: withHeader(head, 'fly-replay-src', source) };
  }
  // Without a word of it nothing comes back: the client gets an error.
  if (instruction.fallback === undefined) return undefined;
  const other = instruction.fallback === 'prefer_self' ? edge.fallbackTo : issuer;
  const to = reachable(edge, issuer) ?? reachable(edge, other);
  const failed = instruction.instance as MachineId | undefined;
  const named = failed === undefined ? {} : { instance: failed };
  const failure = formatReplayFailure({ ...named, reason: 'no_candidate', elapsedMs: 10 });
  return to && { to, head: withHeader(head, 'fly-replay-failed', failure) };
}

function targetOf(
  edge: Edge,
  { instance, isElsewhere }: ReplayInstruction,
  issuer: MachineId,
): ModelMachine | undefined {
  if (!isElsewhere) return reachable(edge, instance as MachineId);
  const others = [...edge.machines.keys()].filter((machine) => machine !== issuer);
  return others.map((machine) => reachable(edge, machine)).find((found) => found !== undefined);
}

function reachable({ machines }: Edge, machine: MachineId): ModelMachine | undefined {
  const found = machines.get(machine);
  return found?.script.isReachable ? found : undefined;
}

function withHeader(head: RequestHead, name: string, value: string): RequestHead {
  return { ...head, rawHeaders: [...head.rawHeaders, name, value] };
}

function withoutForged(head: RequestHead): RequestHead {
  const isOfTheEdge = (name: string | undefined): boolean => /^fly-replay/i.test(name ?? '');
  const rawHeaders = head.rawHeaders.filter(
    (_, index, all) => !isOfTheEdge(all[index - (index % 2)]),
  );
  return { ...head, rawHeaders };
}

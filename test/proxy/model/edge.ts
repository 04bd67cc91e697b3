/**
 * The edge: delivers a request, follows the replay instructions of sidecars, and returns the request
 * if that fails (FLY-FACTS, "fly-replay").
 */
import type { RequestHead } from '../../../src/protocols/heads.ts';
import type { MachineId } from '../../../src/session.ts';
import {
  formatReplayFailure,
  formatReplaySource,
  parseReplay,
  type ReplayInstruction,
} from '../../../src/fly.ts';
import { headerValue } from '../../../src/protocols/heads.ts';
import type { MachineScript } from './machine.ts';
import type { ModelResponse, RequestFlow, FlowMachine } from './request-flow.ts';

export interface EdgeMachine extends FlowMachine {
  readonly script: Pick<MachineScript, 'machine' | 'app' | 'isReachable'>;
}

export interface Edge {
  readonly machines: ReadonlyMap<MachineId, EdgeMachine>;
  readonly first: MachineId;
  /** The target of `prefer_self` if the Machine that asked for it is unreachable. */
  readonly fallbackTo: MachineId;
  /** Whether it removes its own headers from client requests. This is not documented. */
  readonly stripsForged: boolean;
  /** Whether it follows replay instructions of apps. If not, the response of the app ends the request. */
  readonly followsApps?: boolean;
}

interface Delivery {
  readonly to: EdgeMachine;
  readonly head: RequestHead;
}

/** Fly Proxy stops after this many replays (`PA02`). */
const MAX_REPLAYS = 10;
const FAILED: ModelResponse = {
  by: 'edge',
  machine: undefined,
  status: 503,
  rawHeaders: [],
  decision: undefined,
};

export async function sendThroughEdge(
  edge: Edge,
  flow: RequestFlow,
  request: RequestHead,
): Promise<ModelResponse> {
  const to = reachable(edge, edge.first);
  const head = edge.stripsForged ? withoutForged(request) : request;
  let next: Delivery | undefined = to && { to, head };
  while (next && flow.replayed.length + flow.replayedByApps.length <= MAX_REPLAYS) {
    const { to, head }: Delivery = next;
    const response = await flow.visit(to, head, 'edge');
    const isOfApp = response.by === 'app';
    const instruction = isOfApp && !edge.followsApps ? undefined : instructionIn(response);
    if (!instruction) return response;
    (isOfApp ? flow.replayedByApps : flow.replayed).push(head);
    next = follow(edge, instruction, head, to.script.machine);
  }
  return FAILED;
}

function instructionIn({ rawHeaders }: ModelResponse): ReplayInstruction | undefined {
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
    return {
      to: target,
      head: withHeader(edge.followsApps ? withoutSource(head) : head, 'fly-replay-src', source),
    };
  }
  // Without a fallback the request does not return: the client gets an error.
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
): EdgeMachine | undefined {
  if (!isElsewhere) return reachable(edge, instance as MachineId);
  const others = [...edge.machines.keys()].filter((machine) => machine !== issuer);
  return others.map((machine) => reachable(edge, machine)).find((found) => found !== undefined);
}

function reachable({ machines }: Edge, machine: MachineId): EdgeMachine | undefined {
  const found = machines.get(machine);
  return found?.script.isReachable ? found : undefined;
}

/** Each replay of the edge names only its own source. */
function withoutSource(head: RequestHead): RequestHead {
  const { rawHeaders } = head;
  return rawHeaders.at(-2) === 'fly-replay-src'
    ? { ...head, rawHeaders: rawHeaders.slice(0, -2) }
    : head;
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

/** The path of one request through sidecars and apps, and a record of it for the assertions. */
import type { Minter } from '../../../src/protocols/protocol.ts';
import { headerValue, type RequestHead } from '../../../src/protocols/heads.ts';
import type { ErrorResponse } from '../../../src/protocols/error-responses.ts';
import type { Decision } from '../../../src/routing/decision.ts';
import type { MachineId, SessionKey } from '../../../src/session.ts';
import { readEdgeFields, type ArrivedRequest } from '../../../src/routing/facts.ts';
import { unreachable } from '../../../src/routing/respond.ts';
import type { Routed } from '../../../src/routing/route.ts';
import type { MachineScript, ModelMachine } from './machine.ts';

/** The parts of a Machine that a request uses. */
export interface FlowMachine extends Pick<
  ModelMachine,
  'router' | 'actionFor' | 'decisions' | 'responses' | 'bindings'
> {
  readonly script: Pick<MachineScript, 'machine' | 'app'>;
}

/** Returns the other Machine if it accepts forwards from that peer. */
type Reach = (from: MachineId, to: MachineId) => FlowMachine | undefined;
/** Resolves when it is this step's turn. */
type Step = (label: string) => Promise<void>;
/** Called when a request with a session arrives at an app. */
type OnServed = (machine: MachineId, key: SessionKey, decision: Decision) => void;

/** A request's arrival at one sidecar. */
export interface Visit {
  readonly machine: MachineId;
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  /** The peer that placed the session here. */
  readonly placedBy: MachineId | undefined;
  /** Number of responses to this arrival. */
  responseCount: number;
}

/** A request's arrival at an app. */
export interface Served {
  readonly machine: MachineId;
  readonly method: string;
  /** The session of the request, as the sidecar looked it up. */
  readonly key: SessionKey | undefined;
  /** Whether apps or clients mint such ids. */
  readonly mintedBy: Minter | undefined;
  readonly decision: Decision;
}

export interface ModelResponse {
  readonly by: 'app' | 'sidecar' | 'edge';
  /** The Machine whose sidecar or app responded. */
  readonly machine: MachineId | undefined;
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly decision: Decision | undefined;
}

interface Arrival {
  readonly machine: FlowMachine;
  readonly visit: Visit;
  readonly request: ArrivedRequest;
  readonly onResponse: (response: ModelResponse) => void;
}

export class RequestFlow {
  readonly visits: Visit[] = [];
  readonly served: Served[] = [];
  /** Requests that sidecars made the edge replay. */
  readonly replayed: RequestHead[] = [];
  /** Requests that apps made the edge replay. */
  readonly replayedByApps: RequestHead[] = [];
  forwardCount = 0;
  readonly #reach: Reach;
  readonly #step: Step | undefined;
  readonly #onServed: OnServed | undefined;

  constructor(reach: Reach, step?: Step, onServed?: OnServed) {
    this.#reach = reach;
    this.#step = step;
    this.#onServed = onServed;
  }

  /** Sends the request to a sidecar. Resolves with its first response. */
  async visit(
    machine: FlowMachine,
    head: RequestHead,
    from: 'edge' | 'peer',
    placedBy?: MachineId,
  ): Promise<ModelResponse> {
    const at = machine.script.machine;
    const visit: Visit = { machine: at, from, head, placedBy, responseCount: 0 };
    this.visits.push(visit);
    await this.#step?.(`${from} delivers to ${at}`);
    return new Promise((resolve) => {
      const onResponse = (response: ModelResponse): void => {
        visit.responseCount += 1;
        resolve(response);
      };
      const arrival = { machine, visit, request: requestOf(visit), onResponse };
      const routed = machine.router.route(arrival.request);
      if (routed instanceof Promise) void routed.then((later) => this.#carryOut(arrival, later));
      else this.#carryOut(arrival, routed);
    });
  }

  /** Carries out a decision, as the proxied request does. */
  #carryOut(arrival: Arrival, routed: Routed): void {
    const { machine, visit, onResponse } = arrival;
    machine.decisions.push(routed.decision);
    const action = machine.actionFor(routed);
    if (action.kind === 'respond') this.#respond(arrival, routed, action.response);
    else if (action.kind === 'local')
      void this.#serve(arrival, routed).then((response) => response && onResponse(response));
    else
      void this.#forward(machine, action.peer.machine, visit.head, routed).then((response) => {
        if (typeof response === 'object') onResponse(response);
        else this.#afterForward(arrival, routed, response);
      });
  }

  #respond({ visit, onResponse }: Arrival, { decision }: Routed, response: ErrorResponse): void {
    const { status, headers: rawHeaders } = response;
    onResponse({ by: 'sidecar', machine: visit.machine, status, rawHeaders, decision });
  }

  #afterForward(arrival: Arrival, routed: Routed, result: 'not-sent' | 'rejected'): void {
    const isPlaced = result === 'not-sent' && routed.decision.why === 'placed';
    const here = isPlaced ? arrival.machine.router.withoutPlace(routed) : undefined;
    if (here) this.#carryOut(arrival, here);
    else {
      arrival.machine.decisions.push(routed.decision);
      this.#respond(arrival, routed, unreachable(routed));
    }
  }

  /** Handles the response of the app, as the proxied request does. Undefined if the request goes to the winner of a claim. */
  async #serve(arrival: Arrival, routed: Routed): Promise<ModelResponse | undefined> {
    const { request } = arrival;
    const { script, responses, bindings, router } = arrival.machine;
    const { machine, app } = script;
    const { head } = request;
    const { key, decision, ids } = routed;
    const mintedBy = ids.kind === 'found' ? ids.protocol.mintedBy : undefined;
    this.served.push({ machine, method: head.method, key, mintedBy, decision });
    if (key !== undefined) this.#onServed?.(machine, key, decision);
    const response = {
      statusCode: app.status,
      rawHeaders: [
        ...(app.mints === undefined ? [] : ['mcp-session-id', app.mints]),
        ...(app.replays === undefined ? [] : ['fly-replay', app.replays]),
      ],
    };
    const mayClaim = decision.kind === 'local' && decision.mayClaim && key !== undefined;
    const endClaim = mayClaim ? bindings.beginClaim(key) : undefined;
    await this.#step?.(`the app of ${machine} responds`);
    const revealed = await responses.onHead(head, routed, response);
    endClaim?.();
    const { lostTo, rawHeaders = response.rawHeaders } = revealed;
    if (lostTo !== undefined && isRepeatable(head)) {
      this.#carryOut(arrival, router.toWinner(request, routed, lostTo));
      return undefined;
    }
    return { by: 'app', machine, status: app.status, rawHeaders, decision };
  }

  /** Handles the response of a peer, as the proxied request does. */
  async #forward(
    { script, bindings }: FlowMachine,
    to: MachineId,
    head: RequestHead,
    routed: Routed,
  ): Promise<ModelResponse | 'not-sent' | 'rejected'> {
    this.forwardCount += 1;
    const peer = this.#reach(script.machine, to);
    if (!peer) return 'not-sent';
    const response = await this.visit(
      peer,
      head,
      'peer',
      routed.decision.why === 'placed' ? script.machine : undefined,
    );
    const isRejected = response.by === 'sidecar' && response.status === 421;
    if (!isRejected) return response;
    if (routed.key && routed.owner === to) bindings.dropCopy(routed.key, routed.owner);
    return 'rejected';
  }
}

function requestOf({ from, head, placedBy }: Visit): ArrivedRequest {
  const length = headerValue(head.rawHeaders, 'content-length');
  const isChunked = headerValue(head.rawHeaders, 'transfer-encoding') !== undefined;
  return {
    from,
    head,
    fields: readEdgeFields(head.rawHeaders),
    bodyLength: isChunked ? undefined : Number(length ?? 0),
    placedBy,
    source: undefined,
  };
}

/** It can be sent again after an app has received it. */
function isRepeatable({ method, rawHeaders }: RequestHead): boolean {
  const isSafe = ['GET', 'HEAD', 'OPTIONS'].includes(method);
  const length = Number(headerValue(rawHeaders, 'content-length') ?? 0);
  return isSafe && length === 0 && headerValue(rawHeaders, 'transfer-encoding') === undefined;
}

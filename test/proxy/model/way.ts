/** The way of one request through sidecars and apps, and what is to be known of it afterwards. */
import type { Minter } from '../../../src/protocols/protocol.ts';
import { headerValue, type RequestHead } from '../../../src/protocols/heads.ts';
import type { ErrorResponse } from '../../../src/protocols/error-responses.ts';
import type { Decision } from '../../../src/routing/decision.ts';
import type { MachineId, SessionKey } from '../../../src/session.ts';
import { readEdgeFields, type ArrivedRequest } from '../../../src/routing/facts.ts';
import { unreachable } from '../../../src/routing/respond.ts';
import type { Routed } from '../../../src/routing/route.ts';
import type { MachineScript, ModelMachine } from './machine.ts';

/** What a request needs of a Machine. */
export interface WayMachine extends Pick<
  ModelMachine,
  'router' | 'actionFor' | 'decided' | 'answers' | 'bindings'
> {
  readonly script: Pick<MachineScript, 'machine' | 'app'>;
}

/** The other Machine, if it takes what that peer forwards. */
type Reach = (from: MachineId, to: MachineId) => WayMachine | undefined;
/** Resolves when it is this step's turn. */
type Step = (label: string) => Promise<void>;
/** Told of each request with a session that arrives at an app, when it does. */
type OnServed = (machine: MachineId, key: SessionKey, decision: Decision) => void;

/** A request's arrival at one sidecar. */
export interface Visit {
  readonly machine: MachineId;
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
  /** The peer that places the session here. */
  readonly placedBy: MachineId | undefined;
  /** How often its wire was answered. */
  answerCount: number;
}

/** A request's arrival at an app. */
export interface Served {
  readonly machine: MachineId;
  readonly method: string;
  /** The session that it names, as the sidecar has looked it up. */
  readonly key: SessionKey | undefined;
  /** Who mints such ids. */
  readonly mintedBy: Minter | undefined;
  readonly decision: Decision;
}

export interface Answer {
  readonly by: 'app' | 'sidecar' | 'edge';
  /** Whose sidecar or app has answered. */
  readonly machine: MachineId | undefined;
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly decision: Decision | undefined;
}

interface Arrival {
  readonly machine: WayMachine;
  readonly visit: Visit;
  readonly request: ArrivedRequest;
  readonly settle: (answer: Answer) => void;
}

export class Way {
  readonly visits: Visit[] = [];
  readonly served: Served[] = [];
  /** What sidecars have told the edge to replay. */
  readonly replayed: RequestHead[] = [];
  /** What apps have told the edge to replay. */
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

  /** Lets a sidecar handle the request; resolves with its first answer. */
  async visit(
    machine: WayMachine,
    head: RequestHead,
    from: 'edge' | 'peer',
    placedBy?: MachineId,
  ): Promise<Answer> {
    const at = machine.script.machine;
    const visit: Visit = { machine: at, from, head, placedBy, answerCount: 0 };
    this.visits.push(visit);
    await this.#step?.(`${from} delivers to ${at}`);
    return new Promise((resolve) => {
      const settle = (answer: Answer): void => {
        visit.answerCount += 1;
        resolve(answer);
      };
      const arrival = { machine, visit, request: requestOf(visit), settle };
      const routed = machine.router.route(arrival.request);
      if (routed instanceof Promise) void routed.then((later) => this.#carryOut(arrival, later));
      else this.#carryOut(arrival, routed);
    });
  }

  /** What a proxied request does with its decision. */
  #carryOut(arrival: Arrival, routed: Routed): void {
    const { machine, visit, settle } = arrival;
    machine.decided.push(routed.decision);
    const action = machine.actionFor(routed);
    if (action.kind === 'respond') this.#respond(arrival, routed, action.response);
    else if (action.kind === 'local')
      void this.#serve(arrival, routed).then((answer) => answer && settle(answer));
    else
      void this.#forward(machine, action.peer.machine, visit.head, routed).then((answer) => {
        if (typeof answer === 'object') settle(answer);
        else this.#afterForward(arrival, routed, answer);
      });
  }

  #respond({ visit, settle }: Arrival, { decision }: Routed, response: ErrorResponse): void {
    const { status, headers: rawHeaders } = response;
    settle({ by: 'sidecar', machine: visit.machine, status, rawHeaders, decision });
  }

  #afterForward(arrival: Arrival, routed: Routed, result: 'not-sent' | 'refused'): void {
    const isPlaced = result === 'not-sent' && routed.decision.why === 'placed';
    const here = isPlaced ? arrival.machine.router.withoutPlace(routed) : undefined;
    if (here) this.#carryOut(arrival, here);
    else {
      arrival.machine.decided.push(routed.decision);
      this.#respond(arrival, routed, unreachable(routed));
    }
  }

  /** What a proxied request does with the answer of its app; undefined if it goes to the winner of a claim. */
  async #serve(arrival: Arrival, routed: Routed): Promise<Answer | undefined> {
    const { request } = arrival;
    const { script, answers, bindings, router } = arrival.machine;
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
    const revealed = await answers.onHead(head, routed, response);
    endClaim?.();
    const { lostTo, rawHeaders = response.rawHeaders } = revealed;
    if (lostTo !== undefined && isRepeatable(head)) {
      this.#carryOut(arrival, router.toWinner(request, routed, lostTo));
      return undefined;
    }
    return { by: 'app', machine, status: app.status, rawHeaders, decision };
  }

  /** What a proxied request does with the answer of a peer. */
  async #forward(
    { script, bindings }: WayMachine,
    to: MachineId,
    head: RequestHead,
    routed: Routed,
  ): Promise<Answer | 'not-sent' | 'refused'> {
    this.forwardCount += 1;
    const peer = this.#reach(script.machine, to);
    if (!peer) return 'not-sent';
    const answer = await this.visit(
      peer,
      head,
      'peer',
      routed.decision.why === 'placed' ? script.machine : undefined,
    );
    const isRefused = answer.by === 'sidecar' && answer.status === 421;
    if (!isRefused) return answer;
    if (routed.key && routed.owner === to) bindings.dropCopy(routed.key, routed.owner);
    return 'refused';
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

/** Nothing is lost if its app is asked in vain. */
function isRepeatable({ method, rawHeaders }: RequestHead): boolean {
  const isSafe = ['GET', 'HEAD', 'OPTIONS'].includes(method);
  const length = Number(headerValue(rawHeaders, 'content-length') ?? 0);
  return isSafe && length === 0 && headerValue(rawHeaders, 'transfer-encoding') === undefined;
}

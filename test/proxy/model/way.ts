/** The way of one request through sidecars and apps, and what is to be known of it afterwards. */
import assert from 'node:assert/strict';
import type { Decision } from '../../../src/affinity/decide.ts';
import type { RequestHead } from '../../../src/affinity/extract.ts';
import type { Minter } from '../../../src/affinity/protocols.ts';
import type { MachineId, SessionKey } from '../../../src/affinity/session.ts';
import { headerValue, readEdgeFields } from '../../../src/proxy/edge-fields.ts';
import type { Routed, RoutedRequest } from '../../../src/proxy/handler.ts';
import type { ModelMachine, Surroundings } from './machine.ts';

/** A request's arrival at one sidecar. */
export interface Visit {
  readonly machine: MachineId;
  readonly from: 'edge' | 'peer';
  readonly head: RequestHead;
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
}

export interface Answer {
  readonly by: 'app' | 'sidecar' | 'edge';
  /** Whose sidecar or app has answered. */
  readonly machine: MachineId | undefined;
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly decision: Decision | undefined;
}

export class Way {
  readonly visits: Visit[] = [];
  readonly served: Served[] = [];
  /** What sidecars have told the edge to replay. */
  readonly replayed: RequestHead[] = [];
  forwardCount = 0;
  readonly #reach: Surroundings['reach'];

  constructor(reach: Surroundings['reach']) {
    this.#reach = reach;
  }

  /** Lets a sidecar handle the request; resolves with its first answer. */
  visit(machine: ModelMachine, head: RequestHead, from: 'edge' | 'peer'): Promise<Answer> {
    const visit: Visit = { machine: machine.script.machine, from, head, answerCount: 0 };
    this.visits.push(visit);
    return new Promise((resolve) => {
      const settle = (answer: Answer): void => {
        visit.answerCount += 1;
        resolve(answer);
      };
      machine.handler.handle(this.#requestOf(machine, visit, settle));
    });
  }

  #requestOf(machine: ModelMachine, visit: Visit, settle: (answer: Answer) => void): RoutedRequest {
    const { from, head } = visit;
    const length = headerValue(head.rawHeaders, 'content-length');
    const isChunked = headerValue(head.rawHeaders, 'transfer-encoding') !== undefined;
    const request: RoutedRequest = {
      from,
      head,
      fields: readEdgeFields(head.rawHeaders),
      bodyLength: isChunked ? undefined : Number(length ?? 0),
      respond: ({ status, headers: rawHeaders }, { decision }) =>
        settle({ by: 'sidecar', machine: visit.machine, status, rawHeaders, decision }),
      toUpstream: (routed) => void this.#serve(machine, head, routed).then(settle),
      toPeer: ({ machine: to }, routed) =>
        void this.#forward(machine, to, head, routed).then((answer) => {
          if (answer) settle(answer);
          else machine.handler.unreachable(request, routed);
        }),
      refuseMalformed: ({ status }) => assert.fail(`refused with ${status}`),
      onFault: (error) => assert.fail(String(error)),
    };
    return request;
  }

  /** What an exchange does with the answer of its app. */
  async #serve(
    { script: { machine, app }, answers }: ModelMachine,
    head: RequestHead,
    routed: Routed,
  ): Promise<Answer> {
    const { key, decision, extraction } = routed;
    const mintedBy = extraction.kind === 'found' ? extraction.protocol.mintedBy : undefined;
    this.served.push({ machine, method: head.method, key, mintedBy });
    const response = {
      statusCode: app.status,
      rawHeaders: [
        ...(app.mints === undefined ? [] : ['mcp-session-id', app.mints]),
        ...(app.replays ? ['fly-replay', 'elsewhere=true'] : []),
      ],
    };
    const { rawHeaders = response.rawHeaders } = await answers.fromHead(head, routed, response);
    return { by: 'app', machine, status: app.status, rawHeaders, decision };
  }

  /** What an exchange does with the answer of a peer; undefined if the peer has not taken the request. */
  async #forward(
    { script, bindings }: ModelMachine,
    to: MachineId,
    head: RequestHead,
    routed: Routed,
  ): Promise<Answer | undefined> {
    this.forwardCount += 1;
    const peer = this.#reach(script.machine, to);
    const answer = peer && (await this.visit(peer, head, 'peer'));
    if (answer?.by !== 'sidecar' || answer.decision?.why !== 'moved') return answer;
    if (routed.key && routed.owner) bindings.drop(routed.key, routed.owner);
    return undefined;
  }
}

/**
 * What would be done with a request, and why, without doing it: the real steps to a decision are
 * gone, each of them watched, and nothing is written, adopted, kept alive or handed on. Other
 * Machines are really asked, as the answer depends on theirs.
 */
import type { RequestHead } from '../protocols/heads.ts';
import type { Owner, RoutingFacts } from './decide.ts';
import type { Decision } from './decision.ts';
import type { LivenessState } from '../fleet/liveness.ts';
import type { FoundId } from '../protocols/request-ids.ts';
import { createIdReaders } from '../protocols/id-locations.ts';
import { sessionKeyOf, type MachineId, type SessionKey } from '../session.ts';
import type { Clock } from '../clock.ts';
import type { KeyResponse } from '../fleet/messages.ts';
import type { Peers, PeerLookup } from '../fleet/peers.ts';
import type { Lookup } from '../store/store.ts';
import { formatFields } from '../http/head-text.ts';
import { DEFAULT_LIMITS } from '../http/limits.ts';
import { RequestParser } from '../http/request-head.ts';
import { headerValue, readEdgeFields } from './edge-fields.ts';
import { createOwnerFinder, type OwnerFinderParts } from './find-owner.ts';
import { createReplies, type RepliesParts, type Reply } from './respond.ts';
import {
  createRoute,
  unrouted,
  type ArrivedRequest,
  type RouteParts,
  type Routed,
} from './route.ts';

export interface ExplainedRequest extends RequestHead {
  readonly from: 'edge' | 'peer';
}

/** One step to the decision. A session is shown as its key, never as its id (invariant 5). */
export type Step =
  | { readonly step: 'request'; readonly is: 'well-formed' | 'malformed' }
  | { readonly step: 'session'; readonly found: 'none' | 'conflict' }
  | {
      readonly step: 'session';
      readonly found: 'id';
      readonly key: SessionKey;
      readonly protocol: string;
      readonly in: string;
      readonly name?: string;
      readonly hint?: MachineId;
    }
  | {
      readonly step: 'store';
      readonly key: SessionKey;
      readonly said: 'absent' | 'unknown' | object;
    }
  | {
      readonly step: 'peers';
      readonly key: SessionKey;
      readonly each: Readonly<Record<string, 'mine' | 'no' | 'unknown'>>;
      readonly answer: PeerLookup;
    }
  | { readonly step: 'directory'; readonly machine: MachineId; readonly liveness: LivenessState }
  | { readonly step: 'look-again'; readonly foundNewcomer: boolean | undefined }
  | { readonly step: 'owner'; readonly owner: Owner }
  | { readonly step: 'facts'; readonly facts: RoutingFacts }
  | { readonly step: 'state'; readonly state: object }
  | { readonly step: 'decision'; readonly decision: Decision };

export interface Explanation {
  readonly machine: MachineId;
  readonly steps: readonly Step[];
  readonly answer:
    | { readonly by: 'app' }
    | { readonly by: 'peer'; readonly machine: MachineId }
    | {
        readonly by: 'sidecar';
        readonly status: number;
        readonly headers: Readonly<Record<string, string>>;
      };
}

/** Never rejects. */
export type Explain = (request: ExplainedRequest) => Promise<Explanation>;

export interface ExplainParts {
  readonly routing: RouteParts & RepliesParts;
  readonly owners: Omit<OwnerFinderParts, 'peers'> & { readonly peers: Pick<Peers, 'ask'> };
  readonly clock: Clock;
  /** Names, in lower case, that `Connection` may not name. */
  readonly protectedNames: ReadonlySet<string>;
}

type Tell = (step: Step) => void;

export function createExplain({ routing, owners, clock, protectedNames }: ExplainParts): Explain {
  const replies = createReplies(routing);

  return async (request) => {
    const steps: Step[] = [];
    const tell: Tell = (step) => void steps.push(step);
    const routed = await routeWatched(request, tell);
    tell({ step: 'decision', decision: routed.decision });
    return { machine: routing.self, steps, answer: answerOf(replies.to(routed)) };
  };

  function routeWatched(request: ExplainedRequest, tell: Tell): Routed | Promise<Routed> {
    const arrived = arrivedAs(request, protectedNames);
    tell({ step: 'request', is: arrived ? 'well-formed' : 'malformed' });
    if (!arrived) return unrouted({ kind: 'refuse', status: 400, why: 'malformed-request' });
    const route = createRoute({
      ...routing,
      extract: (head) => {
        const extraction = routing.extract(head);
        tell(
          extraction.kind === 'found'
            ? sessionStep(head, extraction)
            : { step: 'session', found: extraction.kind },
        );
        return extraction;
      },
      owners: createOwnerFinder(watched(owners, clock, tell)),
      onBasis: ({ facts, owner, state }) => {
        tell({ step: 'owner', owner });
        tell({ step: 'facts', facts });
        tell({ step: 'state', state });
      },
    });
    return route(arrived);
  }
}

/** As the listener reads a request; undefined if it would refuse it as malformed. */
function arrivedAs(
  { from, method, target, rawHeaders }: ExplainedRequest,
  protectedNames: ReadonlySet<string>,
): ArrivedRequest | undefined {
  const parser = new RequestParser({ ...DEFAULT_LIMITS, protectedNames });
  const host = headerValue(rawHeaders, 'host') === undefined ? 'Host: localhost\r\n' : '';
  const text = `${method} ${target} HTTP/1.1\r\n${host}${formatFields(rawHeaders)}\r\n`;
  const bytes = Buffer.from(text, 'latin1');
  const parsed = parser.parse(bytes, 0, bytes.length);
  if (parsed === undefined || 'status' in parsed || parsed.end !== bytes.length) return undefined;
  const { head } = parsed;
  return {
    from,
    head,
    fields: readEdgeFields(head.rawHeaders),
    bodyLength: head.isChunked ? undefined : (head.contentLength ?? 0),
    placedBy: undefined,
    source: undefined,
  };
}

function sessionStep(head: RequestHead, { id, hint, protocol }: FoundId): Step {
  const place = createIdReaders([protocol]).find(({ read }) => read(head) !== undefined);
  const source = place?.location ?? { in: 'unknown' };
  return {
    step: 'session',
    found: 'id',
    key: sessionKeyOf(id),
    protocol: protocol.name,
    in: source.in,
    ...('name' in source && { name: source.name }),
    ...(hint !== undefined && { hint }),
  };
}

/** The same parts, which tell what they were asked and have answered. What they are told ends here. */
function watched(parts: ExplainParts['owners'], clock: Clock, tell: Tell): OwnerFinderParts {
  const { store, directory, liveness, peers } = parts;

  function tellLookup(key: SessionKey, looked: Lookup): Lookup {
    const said =
      typeof looked === 'string'
        ? looked
        : {
            machine: looked.machine,
            origin: looked.origin,
            generation: looked.generation,
            expiresInMs: looked.expiresAt - clock.now(),
          };
    tell({ step: 'store', key, said });
    return looked;
  }

  return {
    self: parts.self,
    hints: parts.hints,
    replays: parts.replays,
    store: {
      isShared: store.isShared,
      lookup: async (key) => tellLookup(key, await store.lookup(key)),
    },
    directory: {
      peer: (machine) => directory.peer(machine),
      findNewMachines: async (isHurried) => {
        const foundNewcomer = await directory.findNewMachines(isHurried);
        tell({ step: 'look-again', foundNewcomer });
        return foundNewcomer;
      },
    },
    liveness: {
      isConfirmedGone: (machine) => liveness.isConfirmedGone(machine),
      listing: (machine) => liveness.listing(machine),
      of: (machine) => {
        const state = liveness.of(machine);
        tell({ step: 'directory', machine, liveness: state });
        return state;
      },
    },
    isPending: parts.isPending,
    peers: {
      ask: async (key, how) => {
        const each: Record<string, 'mine' | 'no' | 'unknown'> = {};
        const onEach = (machine: MachineId, said: KeyResponse): void => {
          each[machine] = typeof said === 'string' ? said : 'mine';
          how?.onResponse?.(machine, said);
        };
        const answer = await peers.ask(key, { ...how, onResponse: onEach, isDryRun: true });
        tell({ step: 'peers', key, each, answer });
        return answer;
      },
    },
    onDisowned: () => undefined,
    onOwnPast: parts.onOwnPast && (() => undefined),
  };
}

function answerOf(reply: Reply): Explanation['answer'] {
  switch (reply.kind) {
    case 'upstream':
      return { by: 'app' };
    case 'peer':
      return { by: 'peer', machine: reply.peer.machine };
    case 'answer': {
      const { status, headers } = reply.answer;
      return { by: 'sidecar', status, headers: recordOf(headers) };
    }
  }
}

function recordOf(headers: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i + 1 < headers.length; i += 2) record[headers[i] ?? ''] = headers[i + 1] ?? '';
  return record;
}

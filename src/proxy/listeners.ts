/** The two listeners: for the edge, and for the sidecars of other Machines. */
import type { MalformedRequest } from '../http/malformed-request.ts';
import type { BufferBudget } from '../http/buffers.ts';
import type { RequestHead as RoutedHead } from '../protocols/heads.ts';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { MAX_MESSAGE_BYTES } from '../fleet/messages.ts';
import type { PeerResponse, PeerService } from '../fleet/peer-service.ts';
import { FORWARD_BYTES, FORWARD_FIELDS, type Limits } from '../http/limits.ts';
import {
  createHttpListener,
  type HttpListener,
  type HttpListenerOptions,
} from '../http/listener.ts';
import type { ParsedRequestHead } from '../http/request-head.ts';
import type { RequestHandler } from '../http/client-connection.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import {
  FORWARD_PATH,
  REFUSED_HEADER,
  unwrapHead,
  type PeerRefusal,
  type ReceivedHead,
} from './forward-head.ts';
import { ProxiedRequest, type ProxyParts } from './proxied-request.ts';
import { collectBody } from './request-body.ts';

export interface Listeners {
  /** For the edge. Everything goes to the app: no path is taken away from it. */
  readonly edge: HttpListener;
  /** For the sidecars of other Machines. */
  readonly peer: HttpListener;
}

export interface ListenersParts {
  readonly self: MachineId;
  readonly proxy: ProxyParts;
  readonly peerService: PeerService;
  /** Whether the address belongs to a Machine of the app. */
  readonly isPeerAddress: (address: string) => boolean;
  /** Whether it belongs to that very Machine. */
  readonly isAddressOf: (machine: MachineId, address: string) => boolean;
  /** Never rejects. */
  readonly findNewPeers: () => Promise<unknown>;
  readonly budget: BufferBudget;
  readonly limits: Limits;
  /** Names, in lower case, of the request fields that routing and the log read. */
  readonly namesRead: Iterable<string>;
  readonly http: Omit<HttpListenerOptions, 'handler' | 'limits' | 'budget'>;
}

/** How long the body of a peer's question may take, in ms; peers wait for a third of it. */
const PEER_BODY_TIMEOUT_MS = 1_000;

export function createListeners(parts: ListenersParts): Listeners {
  const { proxy, http, budget, limits } = parts;
  const shared = { ...http, budget };
  // A forward has room for what the sidecar adds, so that it fails nowhere else than a local request.
  const peerLimits = {
    ...limits,
    headBytes: limits.headBytes + FORWARD_BYTES,
    fields: limits.fields + FORWARD_FIELDS,
  };
  return {
    edge: createHttpListener({
      ...shared,
      limits,
      selectedNames: parts.namesRead,
      handler: createEdgeHandler(parts),
    }),
    peer: createHttpListener({
      ...shared,
      limits: peerLimits,
      handler: createPeerHandler(parts, proxy),
    }),
  };
}

function createEdgeHandler({ proxy, budget }: ListenersParts): RequestHandler {
  return {
    handle: (incoming) => {
      const request = new ProxiedRequest(incoming, 'edge', selectedOf(incoming.head), proxy);
      if (proxy.via.isLoop(incoming.head.via)) request.refuse('loop-detected');
      else if (budget.isExhausted) request.refuse('overloaded');
      else request.run();
    },
    handleMalformed: (incoming, why) => refuse(incoming, 'edge', why, proxy),
  };
}

/** What routing reads of a head: of its fields only the selected ones. */
function selectedOf({ method, target, selected }: ParsedRequestHead): RoutedHead {
  return { method, target, rawHeaders: selected };
}

function refuse(
  incoming: IncomingRequest,
  from: 'edge' | 'peer',
  why: MalformedRequest,
  proxy: ProxyParts,
): void {
  new ProxiedRequest(incoming, from, incoming.head, proxy).refuseMalformed(why);
}

function createPeerHandler(parts: ListenersParts, proxy: ProxyParts): RequestHandler {
  const { isPeerAddress, findNewPeers, budget } = parts;

  /** A Machine that has just started is in the directory after one more reading. */
  async function serveNewPeer(incoming: IncomingRequest): Promise<void> {
    await findNewPeers();
    // It may have disconnected while the directory was read.
    if (!incoming.isOpen) return;
    if (isPeerAddress(incoming.remoteAddress)) servePeer(incoming);
    else respondShortly(incoming, 403, 'Only the sidecars of this app may ask here.\n', 'stranger');
  }

  function servePeer(incoming: IncomingRequest): void {
    const { head } = incoming;
    if (head.target === FORWARD_PATH) takeForward(incoming);
    else if (!respondToQuestion(incoming))
      respondShortly(incoming, 404, 'There is nothing at this path.\n');
  }

  function takeForward(incoming: IncomingRequest): void {
    const { method, rawHeaders } = incoming.head;
    const received = unwrapHead(rawHeaders);
    const isAsterisk = received?.target === '*' && method !== 'OPTIONS';
    if (!received || isAsterisk) {
      respondShortly(incoming, 400, 'A forward names its target and its Machine.\n');
    } else if (received.machine !== parts.self) {
      respondShortly(incoming, 421, 'Another Machine is meant.\n', 'not-meant');
    } else {
      const { target, rawHeaders: ofClient } = received;
      const head: RoutedHead = { method, target, rawHeaders: ofClient };
      // An early 102 tells the peer that the request has arrived. Without it the peer may send it again.
      incoming.writeProcessing();
      const request = new ProxiedRequest(
        incoming,
        'peer',
        head,
        proxy,
        senderOf(received, incoming),
      );
      if (budget.isExhausted) request.refuse('overloaded');
      else request.run();
    }
  }

  /** The Machine that has placed a new session here, if it is the one that it says. */
  function senderOf({ placedBy }: ReceivedHead, incoming: IncomingRequest): MachineId | undefined {
    const isIt = placedBy !== undefined && parts.isAddressOf(placedBy, incoming.remoteAddress);
    return isIt ? placedBy : undefined;
  }

  /** False: the peer service has no such path. */
  function respondToQuestion(incoming: IncomingRequest): boolean {
    const { method, target } = incoming.head;
    const response = parts.peerService({
      method,
      path: target,
      address: incoming.remoteAddress,
      readText: () => readText(incoming, proxy),
    });
    response
      ?.then((result) => respondToPeer(incoming, result, proxy.clock))
      .catch((error: unknown) => {
        // The peer has disconnected, or something unexpected happened: it gets no response.
        if (incoming.isOpen) proxy.onFault(error);
        incoming.destroy();
      });
    return response !== undefined;
  }

  return {
    handle: (incoming) => {
      if (isPeerAddress(incoming.remoteAddress)) servePeer(incoming);
      else
        void serveNewPeer(incoming).catch((error: unknown) => {
          proxy.onFault(error);
          incoming.destroy();
        });
    },
    handleMalformed: (incoming, { status, reason }) =>
      respondShortly(incoming, status, `The request is refused: ${reason}.\n`),
  };
}

function readText(incoming: IncomingRequest, { clock }: ProxyParts): Promise<string | undefined> {
  const options = { maxBytes: MAX_MESSAGE_BYTES, timeoutMs: PEER_BODY_TIMEOUT_MS, clock };
  return new Promise((resolve, reject) => {
    collectBody(
      incoming,
      options,
      (body) => {
        if (typeof body !== 'string') resolve(body.toString());
        else if (body === 'too-long') resolve(undefined);
        else reject(new Error(`the body of a peer's message is ${body}`));
      },
      () => reject(new Error('the peer disconnected')),
    );
  });
}

/** `Date` tells an operator's `doctor` how far the clocks of the Machines are apart. */
function respondToPeer(incoming: IncomingRequest, response: PeerResponse, clock: Clock): void {
  const date = ['date', new Date(clock.now()).toUTCString()];
  if ('body' in response) {
    const headers = ['content-type', 'application/json', ...date];
    incoming.respond({ status: 200, headers, body: response.body });
    return;
  }
  const { status } = response;
  const headers = status === 405 ? [...date, 'allow', 'POST'] : date;
  // What is left of the body is not read: the connection ends with the response.
  incoming.respond({ status, headers, body: '' }, true);
}

function respondShortly(
  incoming: IncomingRequest,
  status: number,
  body: string,
  refusal?: PeerRefusal,
): void {
  const why = refusal === undefined ? [] : [REFUSED_HEADER, refusal];
  incoming.respond({ status, headers: [...why, 'content-type', 'text/plain'], body }, true);
}

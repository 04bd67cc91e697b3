/** The two listeners: for the edge, and for the sidecars of other Machines. */
import type { MalformedRequest, ParsedRequestHead } from '../http/request-head.ts';
import type { RequestHead } from '../protocols/heads.ts';
import { FORWARD_BYTES, FORWARD_FIELDS, type Limits } from '../http/limits.ts';
import {
  createHttpListener,
  type HttpListener,
  type HttpListenerOptions,
} from '../http/listener.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import { PROCESSING } from '../http/response-head.ts';
import type { RequestHandler } from '../http/served-requests.ts';
import { ProxiedRequest } from './proxied-request.ts';
import type { ProxyParts } from './proxy-parts.ts';
import type { BufferBudget } from '../http/buffers.ts';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { MAX_MESSAGE_BYTES } from '../fleet/messages.ts';
import type { PeerResponse, PeerService } from '../fleet/peer-service.ts';
import {
  FORWARD_PATH,
  REFUSED_HEADER,
  unwrapHead,
  type ForwardNotes,
  type PeerRefusal,
  type ReceivedHead,
} from './forwarded-head.ts';
import { collectBody } from './request-body.ts';

export interface Listeners {
  /** For the edge. Everything goes to the app: no path is taken away from it. */
  readonly edge: HttpListener;
  /** For the sidecars of other Machines. */
  readonly peer: HttpListener;
}

interface ListenersParts extends PeerHandlerParts {
  readonly limits: Limits;
  /** Names, in lower case, of the request fields that routing and the log read. */
  readonly namesRead: Iterable<string>;
  readonly http: Omit<HttpListenerOptions, 'handler' | 'limits' | 'budget'>;
}

export function createListeners(parts: ListenersParts): Listeners {
  const { http, budget, limits } = parts;
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
      handler: new PeerHandler(parts),
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
function selectedOf({ method, target, host, upgrade, selected }: ParsedRequestHead): RequestHead {
  return { method, target, host, upgrade, rawHeaders: selected };
}

function refuse(
  incoming: IncomingRequest,
  from: 'edge' | 'peer',
  why: MalformedRequest,
  proxy: ProxyParts,
): void {
  new ProxiedRequest(incoming, from, incoming.head, proxy).refuseMalformed(why);
}

interface PeerHandlerParts {
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
}

/** How long the body of a peer's question may take, in ms; peers wait for a third of it. */
const PEER_BODY_TIMEOUT_MS = 1_000;

/** Serves the sidecars of other Machines: takes their forwards, and responds to their messages. */
class PeerHandler implements RequestHandler {
  readonly #parts: PeerHandlerParts;

  constructor(parts: PeerHandlerParts) {
    this.#parts = parts;
  }

  handle(incoming: IncomingRequest): void {
    const { isPeerAddress, proxy } = this.#parts;
    if (isPeerAddress(incoming.remoteAddress)) {
      this.#serve(incoming);
      return;
    }
    void this.#serveNewPeer(incoming).catch((error: unknown) => {
      proxy.onFault(error);
      incoming.destroy();
    });
  }

  handleMalformed(incoming: IncomingRequest, { status, reason }: MalformedRequest): void {
    respondShortly(incoming, status, `The request is refused: ${reason}.\n`);
  }

  /** A Machine that has just started is in the directory after one more reading. */
  async #serveNewPeer(incoming: IncomingRequest): Promise<void> {
    const { isPeerAddress, findNewPeers } = this.#parts;
    await findNewPeers();
    // It may have disconnected while the directory was read.
    if (!incoming.isOpen) return;
    if (isPeerAddress(incoming.remoteAddress)) this.#serve(incoming);
    else respondShortly(incoming, 403, 'Only the sidecars of this app may ask here.\n', 'stranger');
  }

  #serve(incoming: IncomingRequest): void {
    const { head } = incoming;
    if (head.target === FORWARD_PATH) this.#takeForward(incoming);
    else if (!this.#respondToMessage(incoming))
      respondShortly(incoming, 404, 'There is nothing at this path.\n');
  }

  #takeForward(incoming: IncomingRequest): void {
    const { self } = this.#parts;
    const { method, rawHeaders } = incoming.head;
    const received = unwrapHead(rawHeaders);
    const isAsterisk = received?.target === '*' && method !== 'OPTIONS';
    if (!received || isAsterisk) {
      respondShortly(incoming, 400, 'A forward names its target and its Machine.\n');
    } else if (received.machine !== self) {
      respondShortly(incoming, 421, 'Another Machine is meant.\n', 'not-meant');
    } else this.#runForward(incoming, received);
  }

  #runForward(incoming: IncomingRequest, received: ReceivedHead): void {
    const { proxy, budget } = this.#parts;
    const { target, rawHeaders } = received;
    const { method, upgrade } = incoming.head;
    const head: RequestHead = { method, target, upgrade, rawHeaders };
    // An early 102 tells the peer that the request has arrived. Without it the peer may send it again.
    incoming.writeInterim(PROCESSING);
    const notes = this.#checked(received.notes, incoming);
    const request = new ProxiedRequest(incoming, 'peer', head, proxy, notes);
    if (budget.isExhausted) request.refuse('overloaded');
    else request.run();
  }

  /** The Machine that has placed a new session here counts if it is the one that it says. */
  #checked(notes: ForwardNotes, incoming: IncomingRequest): ForwardNotes {
    const { placedBy } = notes;
    const isIt =
      placedBy === undefined || this.#parts.isAddressOf(placedBy, incoming.remoteAddress);
    return isIt ? notes : { ...notes, placedBy: undefined };
  }

  /** False: the peer service has no such path. */
  #respondToMessage(incoming: IncomingRequest): boolean {
    const { proxy, peerService } = this.#parts;
    const { method, target } = incoming.head;
    const response = peerService({
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

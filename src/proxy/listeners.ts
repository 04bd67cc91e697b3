/** The two listeners: for the edge, and for the sidecars of other Machines. */
import type { MalformedRequest, ParsedRequestHead } from '../http/request-head.ts';
import type { RequestHead as RoutedHead } from '../protocols/heads.ts';
import { FORWARD_BYTES, FORWARD_FIELDS, type Limits } from '../http/limits.ts';
import {
  createHttpListener,
  type HttpListener,
  type HttpListenerOptions,
} from '../http/listener.ts';
import type { RequestHandler } from '../http/request-handler.ts';
import type { IncomingRequest } from '../http/incoming-request.ts';
import { PeerHandler, type PeerHandlerParts } from './peer-handler.ts';
import { ProxiedRequest, type ProxyParts } from './proxied-request.ts';

export interface Listeners {
  /** For the edge. Everything goes to the app: no path is taken away from it. */
  readonly edge: HttpListener;
  /** For the sidecars of other Machines. */
  readonly peer: HttpListener;
}

export interface ListenersParts extends PeerHandlerParts {
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

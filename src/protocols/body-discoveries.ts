/** Which responses may reveal an id in their body, and the inspector that each gets. */
import { WholeBodyInspector, type BodyInspector } from './body-inspector.ts';
import { headerIncludes, type RequestHead, type ResponseHead } from './heads.ts';
import type { RequestIds } from './request-ids.ts';
import { SseEndpointInspector } from './sse-endpoint-discovery.ts';
import { SseMessageInspector } from './sse-message-discovery.ts';
import type { BodyDiscovery, Discovery, MessageDiscovery, Protocol } from './protocol.ts';
import type { MachineId } from '../session.ts';

/** One way in which bodies reveal the ids of a protocol. */
export interface BodyDiscoverer {
  /** Whether the response to this request may reveal an id. */
  mayRevealId(request: RequestHead, ids: RequestIds): boolean;
  /** Whether to request that response uncompressed: an inspector can't read compressed bytes. */
  needsPlainBody(request: RequestHead): boolean;
  /** Whether such a response may reveal an id, compressed or not. */
  isOfType(response: ResponseHead): boolean;
  /** An inspector for this response, if its body may reveal an id. */
  open(request: RequestHead, response: ResponseHead): OpenedInspector | undefined;
}

export interface OpenedInspector {
  readonly inspector: BodyInspector;
  /** The outgoing body may be longer than the app's. */
  readonly changesLength: boolean;
}

const EVENT_STREAM = ['text/event-stream'];
/** Read from requests; in lower case. */
export const STREAM_HEADER = 'accept';

export interface BodyDiscovererOptions {
  /** The Machine whose hint new ids get, if any. */
  readonly hint: MachineId | undefined;
  readonly createId: () => string;
}

export function createBodyDiscoverers(
  protocols: readonly Protocol[],
  options: BodyDiscovererOptions,
): readonly BodyDiscoverer[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap(
      (discovery) => createBodyDiscoverer(protocol, discovery, options) ?? [],
    ),
  );
}

function createBodyDiscoverer(
  protocol: Protocol,
  discovery: Discovery,
  options: BodyDiscovererOptions,
): BodyDiscoverer | undefined {
  switch (discovery.from) {
    case 'header':
    case 'set-cookie':
    case 'location':
      return undefined;
    case 'sse-endpoint': {
      const { names } = discovery;
      return {
        mayRevealId: mayOpenStream,
        needsPlainBody: ({ rawHeaders }) =>
          headerIncludes(rawHeaders, STREAM_HEADER, 'text/event-stream'),
        ...opener(
          EVENT_STREAM,
          (request) => new SseEndpointInspector({ ...options, protocol, names, request }),
          true,
        ),
      };
    }
    case 'body':
      return revealedByRequest(protocol, discovery, discovery.contentTypes, () => {
        return new WholeBodyInspector(protocol, discovery);
      });
    case 'sse-message':
      return revealedByRequest(protocol, discovery, EVENT_STREAM, () => {
        return new SseMessageInspector(protocol, discovery);
      });
  }
}

/** A discovery that decides itself which requests' responses may reveal an id. */
function revealedByRequest(
  protocol: Protocol,
  { mayRevealId }: BodyDiscovery | MessageDiscovery,
  contentTypes: readonly string[],
  createInspector: () => BodyInspector,
): BodyDiscoverer {
  return {
    mayRevealId: (request, ids) => !hasIdOf(protocol, ids) && mayRevealId(request),
    needsPlainBody: () => true,
    ...opener(contentTypes, createInspector, false),
  };
}

function opener(
  contentTypes: readonly string[],
  createInspector: (request: RequestHead) => BodyInspector,
  changesLength: boolean,
): Pick<BodyDiscoverer, 'isOfType' | 'open'> {
  const isOfType: BodyDiscoverer['isOfType'] = ({ statusCode, rawHeaders }) =>
    statusCode >= 200 &&
    statusCode < 300 &&
    contentTypes.some((type) => headerIncludes(rawHeaders, 'content-type', type));
  return {
    isOfType,
    // A response that the app compresses despite `accept-encoding: identity` is not inspected.
    open: (request, response) =>
      isOfType(response) && !isCompressed(response)
        ? { inspector: createInspector(request), changesLength }
        : undefined,
  };
}

/** A session does not begin within another session of its own protocol. */
function hasIdOf(protocol: Protocol, ids: RequestIds): boolean {
  return ids.kind === 'found' && ids.protocol.name === protocol.name;
}

/**
 * A stream within a session that was opened by other means begins no session: that is a stream of MCP's
 * Streamable HTTP. An id in the query of a stream that opens one may be anything, a tenant or an older session.
 */
function mayOpenStream(request: RequestHead, ids: RequestIds): boolean {
  if (request.method !== 'GET') return false;
  if (ids.kind !== 'found' || !ids.protocol.isMcp) return true;
  return ids.protocol.discoveries.some(({ from }) => from === 'sse-endpoint');
}

export function isCompressed({ rawHeaders }: ResponseHead): boolean {
  const isEncoded = headerIncludes(rawHeaders, 'content-encoding', '');
  return isEncoded && !headerIncludes(rawHeaders, 'content-encoding', 'identity');
}

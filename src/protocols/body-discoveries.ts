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
  /** An inspector for this response, if its body may reveal an id. */
  open(response: ResponseHead): OpenedInspector | undefined;
}

export interface OpenedInspector {
  readonly inspector: BodyInspector;
  /** The outgoing body is longer than the app's, by an owner hint. */
  readonly addsHint: boolean;
}

const EVENT_STREAM = ['text/event-stream'];
/** Read from requests; in lower case. */
export const STREAM_HEADER = 'accept';

/** `hint`: the Machine whose hint new ids get, if any. */
export function createBodyDiscoverers(
  protocols: readonly Protocol[],
  hint: MachineId | undefined,
): readonly BodyDiscoverer[] {
  return protocols.flatMap((protocol) =>
    protocol.discoveries.flatMap(
      (discovery) => createBodyDiscoverer(protocol, discovery, hint) ?? [],
    ),
  );
}

function createBodyDiscoverer(
  protocol: Protocol,
  discovery: Discovery,
  hint: MachineId | undefined,
): BodyDiscoverer | undefined {
  switch (discovery.from) {
    case 'header':
    case 'set-cookie':
      return undefined;
    case 'sse-endpoint': {
      const { names } = discovery;
      return {
        mayRevealId: mayOpenStream,
        needsPlainBody: ({ rawHeaders }) =>
          headerIncludes(rawHeaders, STREAM_HEADER, 'text/event-stream'),
        open: opener(
          EVENT_STREAM,
          () => new SseEndpointInspector({ protocol, names, hint }),
          hint !== undefined,
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
    open: opener(contentTypes, createInspector, false),
  };
}

function opener(
  contentTypes: readonly string[],
  createInspector: () => BodyInspector,
  addsHint: boolean,
): BodyDiscoverer['open'] {
  return (response) =>
    isReadable(response, contentTypes) ? { inspector: createInspector(), addsHint } : undefined;
}

/** A session does not begin within another session of its own protocol. */
function hasIdOf(protocol: Protocol, ids: RequestIds): boolean {
  return ids.kind === 'found' && ids.protocol.name === protocol.name;
}

/**
 * A stream of a request that names an MCP session begins no session. An id of another protocol, a cookie
 * for example, does not count: an MCP session may begin within that one.
 */
function mayOpenStream(request: RequestHead, ids: RequestIds): boolean {
  const namesMcpSession = ids.kind === 'found' && ids.protocol.isMcp;
  return request.method === 'GET' && !namesMcpSession;
}

/** A response that the app compresses despite `accept-encoding: identity` is not inspected. */
function isReadable(
  { statusCode, rawHeaders }: ResponseHead,
  contentTypes: readonly string[],
): boolean {
  if (statusCode < 200 || statusCode >= 300) return false;
  const isOfType = contentTypes.some((type) => headerIncludes(rawHeaders, 'content-type', type));
  if (!isOfType) return false;
  const isEncoded = headerIncludes(rawHeaders, 'content-encoding', '');
  return !isEncoded || headerIncludes(rawHeaders, 'content-encoding', 'identity');
}

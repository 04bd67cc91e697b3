/** Which responses may reveal an id in their body, and the inspector that each gets. */
import { WholeBodyInspector, type BodyInspector } from './body-inspector.ts';
import { headerIncludes, headerValue, type RequestHead, type ResponseHead } from './heads.ts';
import type { RequestIds } from './request-ids.ts';
import { createCompressedInspector } from './compressed-inspector.ts';
import { pathOf } from './id-locations.ts';
import { SseEndpointInspector } from './sse-endpoint-discovery.ts';
import { SseMessageInspector } from './sse-message-discovery.ts';
import type { BodyDiscovery, Discovery, MessageDiscovery, Protocol } from './protocol.ts';
import { detachedCopy, type MachineId } from '../session.ts';

/** One way in which bodies reveal the ids of a protocol. */
export interface BodyDiscoverer {
  /** Whether the response to this request may reveal an id. */
  mayRevealId(request: RequestHead, ids: RequestIds): boolean;
  /** Whether to request that response uncompressed: an inspector can't read compressed bytes. */
  needsPlainBody(request: RequestHead): boolean;
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
    case 'sse-endpoint':
      return endpointDiscoverer(protocol, discovery.names, options);
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
  { mayRevealId, withinSession }: BodyDiscovery | MessageDiscovery,
  contentTypes: readonly string[],
  createInspector: () => BodyInspector,
): BodyDiscoverer {
  return {
    mayRevealId: (request, ids) =>
      mayRevealId(request) && (withinSession === true || !hasIdOf(protocol, ids)),
    needsPlainBody: () => true,
    open: (_, response) =>
      isReadable(response, contentTypes)
        ? { inspector: createInspector(), changesLength: false }
        : undefined,
  };
}

/** Streams that were compressed though nothing had announced them: their paths, as many as a server may have. */
const MAX_STREAM_PATHS = 64;

function endpointDiscoverer(
  protocol: Protocol,
  names: readonly string[],
  options: BodyDiscovererOptions,
): BodyDiscoverer {
  const compressedPaths = new Set<string>();
  return {
    mayRevealId: mayOpenStream,
    needsPlainBody: ({ rawHeaders, target }) =>
      headerIncludes(rawHeaders, STREAM_HEADER, 'text/event-stream') ||
      (compressedPaths.size > 0 && compressedPaths.has(pathOf(target))),
    open: (request, response) => {
      if (!isOfType(response, EVENT_STREAM) || response.statusCode === 206) return undefined;
      const coding = codingOf(response);
      if (coding === undefined) {
        const inspector = new SseEndpointInspector({ ...options, protocol, names, request });
        return { inspector, changesLength: true };
      }
      const onEndpoint = (): void => {
        const path = pathOf(request.target);
        if (compressedPaths.size < MAX_STREAM_PATHS) compressedPaths.add(detachedCopy(path));
      };
      const plain = new SseEndpointInspector({
        ...{ protocol, names, request, hint: undefined, createId: undefined },
        onEndpoint,
      });
      const inspector = createCompressedInspector(coding, plain);
      return inspector && { inspector, changesLength: false };
    },
  };
}

/** Most sessions do not begin within another session of their own protocol. */
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

function isOfType(
  { statusCode, rawHeaders }: ResponseHead,
  contentTypes: readonly string[],
): boolean {
  if (statusCode < 200 || statusCode >= 300) return false;
  return contentTypes.some((type) => headerIncludes(rawHeaders, 'content-type', type));
}

/** A response that the app compresses despite `accept-encoding: identity` is not inspected. */
function isReadable(response: ResponseHead, contentTypes: readonly string[]): boolean {
  return isOfType(response, contentTypes) && codingOf(response) === undefined;
}

/** The content coding, in lower case; undefined without one. */
function codingOf({ rawHeaders }: ResponseHead): string | undefined {
  const coding = headerValue(rawHeaders, 'content-encoding')?.trim().toLowerCase();
  return coding === undefined || coding === 'identity' ? undefined : coding;
}

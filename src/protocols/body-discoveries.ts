/** Which responses may reveal an id in their body, and the inspector that each gets. */
import { WholeBodyInspector, type BodyInspector } from './body-inspector.ts';
import {
  createMarkCheck,
  headerIncludes,
  headerValue,
  type RequestHead,
  type ResponseHead,
} from './heads.ts';
import type { RequestIds } from './request-ids.ts';
import { createCompressedInspector } from './compressed-inspector.ts';
import { pathOf } from './id-locations.ts';
import { SseEndpointInspector } from './sse-endpoint-discovery.ts';
import { SseMessageInspector } from './sse-message-discovery.ts';
import type { BodyDiscovery, MessageDiscovery, Protocol } from './protocol.ts';
import { detachedCopy, type MachineId } from '../session.ts';

/** One way in which bodies reveal ids. */
export interface BodyDiscoverer {
  /** Whether the response to this request may reveal an id. */
  mayRevealId(request: RequestHead, ids: RequestIds): boolean;
  /** Whether to request that response uncompressed: an inspector can't read compressed bytes. */
  needsPlainBody(request: RequestHead): boolean;
  /** An inspector for this response, if its body may reveal an id. */
  open(request: RequestHead, ids: RequestIds, response: ResponseHead): OpenedInspector | undefined;
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
  const bodies: Row<BodyDiscovery>[] = [];
  const messages: Row<MessageDiscovery>[] = [];
  const endpoints: BodyDiscoverer[] = [];
  for (const protocol of protocols)
    for (const discovery of protocol.discoveries) {
      if (discovery.from === 'body') bodies.push({ protocol, discovery });
      else if (discovery.from === 'sse-message') messages.push({ protocol, discovery });
      else if (discovery.from === 'sse-endpoint')
        endpoints.push(endpointDiscoverer(protocol, discovery.names, options));
    }
  return [
    revealedByRequest(
      bodies,
      ({ contentTypes }) => contentTypes,
      (rows) => new WholeBodyInspector(rows),
    ),
    revealedByRequest(
      messages,
      () => EVENT_STREAM,
      (rows) => new SseMessageInspector(rows),
    ),
    ...endpoints,
  ];
}

interface Row<Of> {
  readonly protocol: Protocol;
  readonly discovery: Of;
}

/**
 * Discoveries that decide themselves which requests' responses may reveal an id. Of several, each reads the same
 * bytes: the URL that creates a room may be that which creates something else in another protocol.
 */
function revealedByRequest<Of extends BodyDiscovery | MessageDiscovery>(
  rows: readonly Row<Of>[],
  contentTypesOf: (discovery: Of) => readonly string[],
  createInspector: (rows: readonly Row<Of>[]) => BodyInspector,
): BodyDiscoverer {
  const mayReveal = (
    { protocol, discovery }: Row<Of>,
    request: RequestHead,
    ids: RequestIds,
  ): boolean =>
    discovery.mayRevealId(request) && (discovery.withinSession === true || !hasIdOf(protocol, ids));
  const unmarked = rows.filter(({ discovery }) => discovery.mark === undefined);
  const hasMark = createMarkCheck(rows.flatMap(({ discovery }) => discovery.mark ?? []));
  const rowsFor = ({ target }: RequestHead): readonly Row<Of>[] =>
    hasMark(target) ? rows : unmarked;
  return {
    mayRevealId: (request, ids) => rowsFor(request).some((row) => mayReveal(row, request, ids)),
    needsPlainBody: () => true,
    open: (request, ids, response) => {
      const readers = rowsFor(request).filter(
        (row) =>
          mayReveal(row, request, ids) && isReadable(response, contentTypesOf(row.discovery)),
      );
      if (readers.length === 0) return undefined;
      return { inspector: createInspector(readers), changesLength: false };
    },
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
    open: (request, _, response) => {
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

function isOfType(response: ResponseHead, contentTypes: readonly string[]): boolean {
  if (response.statusCode < 200 || response.statusCode >= 300) return false;
  const fields = response.selected ?? response.rawHeaders;
  return contentTypes.some((type) => headerIncludes(fields, 'content-type', type));
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

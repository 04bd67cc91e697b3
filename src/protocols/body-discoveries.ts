/** Which responses may reveal an id in their body, and the inspector that each gets. */
import { WholeBodyInspector, type BodyInspector } from './body-inspector.ts';
import {
  createMarkCheck,
  EVENT_STREAM_TYPE,
  headerMatches,
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
interface BodyDiscoverer {
  /**
   * Whether the response to this request may reveal an id that can't be found in compressed bytes: the response has
   * to be requested uncompressed.
   */
  needsPlainBody(request: RequestHead, ids: RequestIds): boolean;
  /** An inspector for this response, if its body may reveal an id. */
  open(request: RequestHead, ids: RequestIds, response: ResponseHead): OpenedInspector | undefined;
}

export interface OpenedInspector {
  readonly inspector: BodyInspector;
  /** The outgoing body may be longer than the app's. */
  readonly changesLength: boolean;
}

/** Read from requests; in lower case. */
export const STREAM_HEADER = 'accept';

interface BodyDiscovererOptions {
  /** The Machine whose hint new ids get, if any. */
  readonly hint: MachineId | undefined;
  readonly createId: () => string;
}

export function createBodyDiscoverers(
  protocols: readonly Protocol[],
  options: BodyDiscovererOptions,
): readonly BodyDiscoverer[] {
  const rows: Row[] = [];
  const endpoints: BodyDiscoverer[] = [];
  for (const protocol of protocols)
    for (const discovery of protocol.discoveries) {
      if (discovery.from === 'body' || discovery.from === 'sse-message')
        rows.push({ protocol, discovery });
      else if (discovery.from === 'sse-endpoint')
        endpoints.push(endpointDiscoverer(protocol, discovery.names, options));
    }
  return [revealedByRequest(rows), ...endpoints];
}

interface Row<Of = BodyDiscovery | MessageDiscovery> {
  readonly protocol: Protocol;
  readonly discovery: Of;
}

/**
 * Discoveries that decide themselves which requests' responses may reveal an id. Of several, each reads the same
 * bytes: the URL that creates a room may be that which creates something else in another protocol.
 */
function revealedByRequest(rows: readonly Row[]): BodyDiscoverer {
  const unmarked = rows.filter(({ discovery }) => discovery.mark === undefined);
  const hasMark = createMarkCheck(rows.flatMap(({ discovery }) => discovery.mark ?? []));
  const rowsFor = ({ target }: RequestHead): readonly Row[] => (hasMark(target) ? rows : unmarked);
  return {
    needsPlainBody: (request, ids) => mayRevealId(rowsFor(request), request, ids),
    open: (request, ids, response) => {
      const candidates = rowsFor(request);
      if (!mayRevealId(candidates, request, ids)) return undefined;
      const readers = candidates.filter(
        (row) =>
          rowMayRevealId(row, request, ids) && isReadable(response, contentTypeOf(row.discovery)),
      );
      const bodies = readers.filter(isOfWholeBody);
      if (bodies.length > 0)
        return { inspector: new WholeBodyInspector(bodies), changesLength: false };
      const messages = readers.filter(isOfMessage);
      if (messages.length === 0) return undefined;
      return { inspector: new SseMessageInspector(messages), changesLength: false };
    },
  };
}

/** Allocates nothing: every request passes here twice. */
function mayRevealId(rows: readonly Row[], request: RequestHead, ids: RequestIds): boolean {
  for (const row of rows) if (rowMayRevealId(row, request, ids)) return true;
  return false;
}

function rowMayRevealId(
  { protocol, discovery }: Row,
  request: RequestHead,
  ids: RequestIds,
): boolean {
  return (
    discovery.mayRevealId(request) && (discovery.withinSession === true || !hasIdOf(protocol, ids))
  );
}

function isOfWholeBody(row: Row): row is Row<BodyDiscovery> {
  return row.discovery.from === 'body';
}

function isOfMessage(row: Row): row is Row<MessageDiscovery> {
  return row.discovery.from === 'sse-message';
}

function contentTypeOf(discovery: BodyDiscovery | MessageDiscovery): RegExp {
  return discovery.from === 'body' ? discovery.contentType : EVENT_STREAM_TYPE;
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
    needsPlainBody: (request, ids) =>
      mayOpenStream(request, ids) &&
      (headerMatches(request.rawHeaders, STREAM_HEADER, EVENT_STREAM_TYPE) ||
        (compressedPaths.size > 0 && compressedPaths.has(pathOf(request.target)))),
    open: (request, ids, response) => {
      if (!mayOpenStream(request, ids) || response.statusCode === 206) return undefined;
      if (!isOfType(response, EVENT_STREAM_TYPE)) return undefined;
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

function isOfType(response: ResponseHead, contentType: RegExp): boolean {
  if (response.statusCode < 200 || response.statusCode >= 300) return false;
  const fields = response.selected ?? response.rawHeaders;
  return headerMatches(fields, 'content-type', contentType);
}

/** A response that the app compresses despite `accept-encoding: identity` is not inspected. */
function isReadable(response: ResponseHead, contentType: RegExp): boolean {
  return isOfType(response, contentType) && codingOf(response) === undefined;
}

/** The content coding, in lower case; undefined without one. */
function codingOf({ rawHeaders }: ResponseHead): string | undefined {
  const coding = headerValue(rawHeaders, 'content-encoding')?.trim().toLowerCase();
  return coding === undefined || coding === 'identity' ? undefined : coding;
}

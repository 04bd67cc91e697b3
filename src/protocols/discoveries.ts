/**
 * What a response of the local app reveals: ids that the app has minted, the end of a session, and what of
 * it the client may see. This runs on every local response: most reveal nothing, which the names of their
 * headers tell.
 */
import type { Clock } from '../clock.ts';
import { COOKIE_HEADERS } from './affinity-cookie.ts';
import type { BodyInspector } from './body-inspector.ts';
import { createBodyDiscoverers, STREAM_HEADER, type OpenedInspector } from './body-discoveries.ts';
import { createHeaderDiscoverer } from './header-discoveries.ts';
import {
  createHeaderSpotter,
  isHeader,
  isReplayResponse,
  type RequestHead,
  type ResponseHead,
} from './heads.ts';
import { REVISION_HEADER, TASK_HEADERS } from './mcp.ts';
import type { DiscoveredId, Protocol } from './protocol.ts';
import type { RequestIds } from './request-ids.ts';
import type { MachineId } from '../session.ts';

export interface HeadDiscoveries {
  /** Ids that the request did not carry, each once. To be bound before the response goes out. */
  readonly discovered: readonly DiscoveredId[];
  /** The app has ended the session of the request. */
  readonly hasEnded: boolean;
  /** What the client may see, with owner hints; undefined: the fields of the response as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** The body may reveal an id: it must pass through this inspector. */
  readonly inspector: BodyInspector | undefined;
}

export interface Discoverer {
  /** Names, in lower case, of the response headers that tell whether the response may reveal a session id. */
  readonly revealingHeaders: readonly string[];
  /**
   * Whether the body of the response may reveal an id. Such a request goes to the app with `accept-encoding:
   * identity`, as an inspector can't find an id in compressed bytes.
   */
  mayRevealInBody(head: RequestHead, ids: RequestIds): boolean;
  /** Inspects the head of a response of the local app. Never throws. */
  inspectHead(request: RequestHead, ids: RequestIds, response: ResponseHead): HeadDiscoveries;
}

interface DiscovererOptions {
  /** Whether ids go out with the hint of `self`. */
  readonly hints: boolean;
  readonly self: MachineId;
  readonly clock: Clock;
  /** An id that nobody can guess. */
  readonly createId: () => string;
}

const NOTHING: HeadDiscoveries = {
  discovered: [],
  hasEnded: false,
  rawHeaders: undefined,
  inspector: undefined,
};

export function createDiscoverer(
  protocols: readonly Protocol[],
  options: DiscovererOptions,
): Discoverer {
  const hint = options.hints ? options.self : undefined;
  const { clock, createId } = options;
  const headers = createHeaderDiscoverer(protocols, { hint, clock, createId });
  const hasRevealingHeader = createHeaderSpotter(headers.names);
  const bodies = createBodyDiscoverers(protocols, { hint, createId });

  const inspectHead: Discoverer['inspectHead'] = (request, ids, response) => {
    const mayRevealInHead = hasRevealingHeader(response.selected ?? response.rawHeaders);
    const mayEnd = isDeletion(request, ids);
    const body = openInspector(request, ids, response);
    if (!(mayRevealInHead || mayEnd || body) || isUnrelated(response)) return NOTHING;

    const inHead = mayRevealInHead ? headers.inspect(request, ids, response) : NOTHING;
    const shown = inHead.rawHeaders;
    return {
      discovered: inHead.discovered,
      hasEnded: inHead.hasEnded || (mayEnd && isSuccess(response)),
      rawHeaders: body?.changesLength ? withoutLength(shown ?? response.rawHeaders) : shown,
      inspector: body?.inspector,
    };
  };

  /** The head of the response tells which of the discoveries for the request applies. */
  const openInspector = (
    request: RequestHead,
    ids: RequestIds,
    response: ResponseHead,
  ): OpenedInspector | undefined => {
    for (const body of bodies) {
      const opened = body.open(request, ids, response);
      if (opened) return opened;
    }
    return undefined;
  };

  return {
    // The affinity cookie is set beside cookies of the app, and bodies are inspected by their type.
    revealingHeaders: [...headers.names, 'set-cookie', 'content-type'],
    mayRevealInBody: (head, ids) => bodies.some((body) => body.needsPlainBody(head, ids)),
    inspectHead,
  };
}

/** MCP 2025-11-25, "Session Management": a client ends its session by a DELETE. */
function isDeletion(request: RequestHead, ids: RequestIds): boolean {
  if (request.method !== 'DELETE' || ids.kind !== 'found') return false;
  return ids.protocol.endsBy === 'delete' && ids.protocol.isEnd?.(request) !== false;
}

/**
 * An interim response is not the app's response yet, except the one that switches protocols, and a replay
 * is no response of this app at all.
 */
function isUnrelated(response: ResponseHead): boolean {
  const isInterim = response.statusCode < 200 && response.statusCode !== 101;
  return isInterim || isReplayResponse(response);
}

function isSuccess({ statusCode }: ResponseHead): boolean {
  return statusCode >= 200 && statusCode < 300;
}

/** An owner hint or a parameter makes the stream longer than the app's `Content-Length` says. */
function withoutLength(rawHeaders: readonly string[]): readonly string[] {
  const isLength = (i: number): boolean => isHeader(rawHeaders[i], 'content-length');
  return rawHeaders.filter((_, i) => !isLength(i - (i % 2)));
}

/**
 * Names, in lower case, of the request headers that this folder reads: the parser keeps only their values at
 * hand.
 */
export function headersReadFromRequests(protocols: readonly Protocol[]): readonly string[] {
  const ofLocations = protocols.flatMap(({ idLocations }) =>
    idLocations.flatMap((location) => {
      if (location.in === 'header') return [location.name];
      return location.in === 'head' ? [location.header] : [];
    }),
  );
  const ofBodies = ['content-type'];
  return [
    ...[...ofLocations, ...ofBodies, ...COOKIE_HEADERS],
    ...[STREAM_HEADER, REVISION_HEADER, ...TASK_HEADERS],
  ];
}

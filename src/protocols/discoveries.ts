/**
 * What an answer teaches: ids that the app has minted, the end of a session, and what of it the
 * client may see. This runs on every local answer: most teach nothing, which a look at the names of
 * their headers tells.
 */
import type { Clock } from '../clock.ts';
import { COOKIE_HEADERS } from './affinity-cookie.ts';
import { createBodyDiscoverers, STREAM_HEADER, type OpenedInspector } from './body-discoveries.ts';
import type { BodyInspector } from './body-inspector.ts';
import type { RequestIds } from './request-ids.ts';
import { createHeaderDiscoverer } from './header-discoveries.ts';
import { REVISION_HEADER, TASK_HEADERS } from './mcp.ts';
import type { DiscoveredId, Protocol } from './protocol.ts';
import {
  createHeaderSpotter,
  isHeader,
  type RequestHead,
  type ResponseHead,
  isReplayResponse,
} from './heads.ts';
import type { MachineId } from '../session.ts';

export interface HeadDiscoveries {
  /** Ids that the request did not carry, each once. To be bound before the answer goes out. */
  readonly discovered: readonly DiscoveredId[];
  /** The app has ended the session of the request. */
  readonly hasEnded: boolean;
  /** What the client may see if hints were added; undefined: the fields of the answer as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** The body may teach: it is to be sent through this tap. */
  readonly inspector: BodyInspector | undefined;
}

export interface Discoverer {
  /** Names, in lower case, of the response fields that may hold a session id. */
  readonly revealingHeaders: readonly string[];
  /**
   * Whether the body of the answer may teach. Such a request goes upstream with `accept-encoding:
   * identity`, as an id can't be found in compressed bytes.
   */
  mayRevealInBody(head: RequestHead, found: RequestIds): boolean;
  /** Looks at the head of an answer of the app beside us. Never throws. */
  inspectHead(request: RequestHead, found: RequestIds, response: ResponseHead): HeadDiscoveries;
}

export interface DiscovererOptions {
  /** Whether ids go out with the hint of `self`. */
  readonly hints: boolean;
  readonly self: MachineId;
  readonly clock: Clock;
}

const NO_LESSONS: readonly DiscoveredId[] = [];

export function createDiscoverer(
  protocols: readonly Protocol[],
  options: DiscovererOptions,
): Discoverer {
  const hint = options.hints ? options.self : undefined;
  const headers = createHeaderDiscoverer(protocols, { hint, clock: options.clock });
  const spotsTeacher = createHeaderSpotter(headers.names);
  const bodies = createBodyDiscoverers(protocols, hint);

  const fromHead: Discoverer['inspectHead'] = (request, found, response) => {
    const mayTeach = spotsTeacher(response.selected ?? response.rawHeaders);
    const mayEnd = asksToDelete(request, found);
    const mayTeachByBody = bodies.some((body) => body.mayAnswer(request, found));
    if (!(mayTeach || mayEnd || mayTeachByBody) || isWithoutLessons(response)) return NOTHING;

    const lessons = mayTeach ? headers.read(request, found, response) : NOTHING;
    const body = mayTeachByBody ? openTap(request, found, response) : undefined;
    const shown = lessons.rawHeaders;
    return {
      discovered: lessons.discovered,
      hasEnded: lessons.hasEnded || (mayEnd && isSuccess(response)),
      rawHeaders: body?.isLonger ? withoutLength(shown ?? response.rawHeaders) : shown,
      inspector: body?.inspector,
    };
  };

  /** The head of the answer tells which of the lessons it may be that the request may get. */
  const openTap = (
    request: RequestHead,
    found: RequestIds,
    response: ResponseHead,
  ): OpenedInspector | undefined => {
    for (const body of bodies) {
      const open = body.mayAnswer(request, found) ? body.open(response) : undefined;
      if (open) return open;
    }
    return undefined;
  };

  return {
    revealingHeaders: headers.names,
    mayRevealInBody: (head, found) =>
      bodies.some((body) => body.mayAnswer(head, found) && body.asksPlain(head)),
    inspectHead: fromHead,
  };
}

const NOTHING: HeadDiscoveries = {
  discovered: NO_LESSONS,
  hasEnded: false,
  rawHeaders: undefined,
  inspector: undefined,
};

/** MCP 2025-11-25, "Session Management": a client ends its session by a DELETE. */
function asksToDelete(request: RequestHead, found: RequestIds): boolean {
  return (
    request.method === 'DELETE' && found.kind === 'found' && found.protocol.endsBy === 'delete'
  );
}

/**
 * An interim answer is not the app's answer yet, except the one that switches protocols, and a
 * replay is no answer of this app at all.
 */
function isWithoutLessons(response: ResponseHead): boolean {
  const isInterim = response.statusCode < 200 && response.statusCode !== 101;
  return isInterim || isReplayResponse(response);
}

function isSuccess({ statusCode }: ResponseHead): boolean {
  return statusCode >= 200 && statusCode < 300;
}

/** A hint makes the stream longer than the app has announced. */
function withoutLength(rawHeaders: readonly string[]): readonly string[] {
  const isLength = (i: number): boolean => isHeader(rawHeaders[i], 'content-length');
  return rawHeaders.filter((_, i) => !isLength(i - (i % 2)));
}

/**
 * Names, in lower case, of the request headers that this folder reads: the parser keeps only their values at
 * hand.
 */
export function headersReadFromRequests(protocols: readonly Protocol[]): readonly string[] {
  const ofSources = protocols.flatMap(({ idLocations: sources }) =>
    sources.flatMap((source) => {
      if (source.in === 'header') return [source.name];
      return source.in === 'head' ? [source.header] : [];
    }),
  );
  return [...ofSources, ...COOKIE_HEADERS, STREAM_HEADER, REVISION_HEADER, ...TASK_HEADERS];
}

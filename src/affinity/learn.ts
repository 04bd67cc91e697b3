/**
 * What an answer teaches: ids that the app has minted, the end of a session, and what of it the
 * client may see. This runs on every local answer: most teach nothing, which a look at the names of
 * their headers tells.
 */
import type { Clock } from '../clock.ts';
import { createEndpointTap, type EndpointTap } from './endpoint-tap.ts';
import type { Extraction } from './extract.ts';
import { createHeaderReader } from './header-lessons.ts';
import type { Lesson, Protocol } from './protocols.ts';
import {
  createHeaderSpotter,
  headerIncludes,
  isHeader,
  type RequestHead,
  type ResponseHead,
} from './raw-headers.ts';
import { isReplayAnswer } from './replay-answer.ts';
import type { MachineId } from './session.ts';

export type { EndpointTap } from './endpoint-tap.ts';
export type { Lesson } from './protocols.ts';
export type { ResponseHead } from './raw-headers.ts';

export interface HeadLessons {
  /** Ids that the request did not carry, each once. To be bound before the answer goes out. */
  readonly learned: readonly Lesson[];
  /** The app has ended the session of the request. */
  readonly hasEnded: boolean;
  /** What the client may see: the answer's own array, or a copy with hints added. */
  readonly rawHeaders: readonly string[];
  /** The body is an event stream to be sent through {@link Learner.tapEndpoint}. */
  readonly expectsEndpoint: boolean;
}

export interface Learner {
  /**
   * Whether the answer may be a stream that opens with an `endpoint` event. Such a request goes
   * upstream with `accept-encoding: identity`, as the event can't be found in compressed bytes.
   */
  mayTeachByStream(head: RequestHead, found: Extraction): boolean;
  /** Looks at the head of an answer of the app beside us. Never throws. */
  fromHead(request: RequestHead, found: Extraction, response: ResponseHead): HeadLessons;
  /** A tap for one stream. Only to be called after `expectsEndpoint`. */
  tapEndpoint(): EndpointTap;
}

export interface LearnerOptions {
  /** Whether ids go out with the hint of `self`. */
  readonly hints: boolean;
  readonly self: MachineId;
  readonly clock: Clock;
}

const NO_LESSONS: readonly Lesson[] = [];

export function createLearner(protocols: readonly Protocol[], options: LearnerOptions): Learner {
  const hint = options.hints ? options.self : undefined;
  const headers = createHeaderReader(protocols, { hint, clock: options.clock });
  const spotsTeacher = createHeaderSpotter(headers.names);
  const endpoint = findEndpointSource(protocols);

  const fromHead: Learner['fromHead'] = (request, found, response) => {
    const mayTeach = spotsTeacher(response.rawHeaders);
    const mayEnd = asksToDelete(request, found);
    const mayStream = endpoint !== undefined && mayOpenStream(request, found);
    if (!(mayTeach || mayEnd || mayStream) || isWithoutLessons(response)) return nothing(response);

    const lessons = mayTeach ? headers.read(request, found, response) : nothing(response);
    const expectsEndpoint = mayStream && isReadableEventStream(response);
    return {
      learned: lessons.learned,
      hasEnded: lessons.hasEnded || (mayEnd && isSuccess(response)),
      rawHeaders: expectsEndpoint && hint ? withoutLength(lessons.rawHeaders) : lessons.rawHeaders,
      expectsEndpoint,
    };
  };

  return {
    mayTeachByStream: (head, found) =>
      endpoint !== undefined &&
      mayOpenStream(head, found) &&
      headerIncludes(head.rawHeaders, 'accept', 'text/event-stream'),
    fromHead,
    tapEndpoint: () => {
      if (!endpoint) throw new Error('no configured protocol learns from an endpoint event');
      return createEndpointTap({ ...endpoint, hint });
    },
  };
}

function nothing(response: ResponseHead): HeadLessons {
  const { rawHeaders } = response;
  return { learned: NO_LESSONS, hasEnded: false, rawHeaders, expectsEndpoint: false };
}

function findEndpointSource(
  protocols: readonly Protocol[],
): { protocol: Protocol; names: readonly string[] } | undefined {
  for (const protocol of protocols) {
    const source = protocol.lessons.find(({ from }) => from === 'sse-endpoint');
    if (source?.from === 'sse-endpoint') return { protocol, names: source.names };
  }
  return undefined;
}

/**
 * The stream of a request that names an MCP session opens none. An id of another protocol, a cookie
 * say, does not count: an MCP session may begin within that one.
 */
function mayOpenStream(request: RequestHead, found: Extraction): boolean {
  const namesMcpSession = found.kind === 'found' && found.protocol.isMcp;
  return request.method === 'GET' && !namesMcpSession;
}

/** MCP 2025-11-25, "Session Management": a client ends its session by a DELETE. */
function asksToDelete(request: RequestHead, found: Extraction): boolean {
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
  return isInterim || isReplayAnswer(response);
}

function isSuccess({ statusCode }: ResponseHead): boolean {
  return statusCode >= 200 && statusCode < 300;
}

/** Compressed bytes can't be read; an app that compresses what was asked for plain is left alone. */
function isReadableEventStream({ statusCode, rawHeaders }: ResponseHead): boolean {
  if (statusCode !== 200) return false;
  if (!headerIncludes(rawHeaders, 'content-type', 'text/event-stream')) return false;
  const isEncoded = headerIncludes(rawHeaders, 'content-encoding', '');
  return !isEncoded || headerIncludes(rawHeaders, 'content-encoding', 'identity');
}

/** A hint makes the stream longer than the app has announced. */
function withoutLength(rawHeaders: readonly string[]): readonly string[] {
  const isLength = (i: number): boolean => isHeader(rawHeaders[i], 'content-length');
  return rawHeaders.filter((_, i) => !isLength(i - (i % 2)));
}

/**
 * What an answer teaches: ids that the app has minted, the end of a session, and what of it the
 * client may see. This runs on every local answer: most teach nothing, which a look at the names of
 * their headers tells.
 */
import type { Clock } from '../clock.ts';
import { createBodyLessons, type OpenBody } from './body-discoveries.ts';
import type { BodyTap } from './body-inspector.ts';
import type { Extraction } from './request-ids.ts';
import { createHeaderReader } from './header-discoveries.ts';
import type { Lesson, Protocol } from './protocol.ts';
import {
  createHeaderSpotter,
  isHeader,
  type RequestHead,
  type ResponseHead,
} from './raw-headers.ts';
import { isReplayAnswer } from './replay-response.ts';
import type { MachineId } from '../session.ts';

export type { BodyTap, TappedChunk } from './body-inspector.ts';
export type { Lesson } from './protocol.ts';
export type { ResponseHead } from './raw-headers.ts';

export interface HeadLessons {
  /** Ids that the request did not carry, each once. To be bound before the answer goes out. */
  readonly learned: readonly Lesson[];
  /** The app has ended the session of the request. */
  readonly hasEnded: boolean;
  /** What the client may see if hints were added; undefined: the fields of the answer as they came. */
  readonly rawHeaders: readonly string[] | undefined;
  /** The body may teach: it is to be sent through this tap. */
  readonly tap: BodyTap | undefined;
}

export interface Learner {
  /** Names, in lower case, of the response fields that may hold a session id. */
  readonly teachingNames: readonly string[];
  /**
   * Whether the body of the answer may teach. Such a request goes upstream with `accept-encoding:
   * identity`, as an id can't be found in compressed bytes.
   */
  mayTeachByBody(head: RequestHead, found: Extraction): boolean;
  /** Looks at the head of an answer of the app beside us. Never throws. */
  fromHead(request: RequestHead, found: Extraction, response: ResponseHead): HeadLessons;
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
  const bodies = createBodyLessons(protocols, hint);

  const fromHead: Learner['fromHead'] = (request, found, response) => {
    const mayTeach = spotsTeacher(response.selected ?? response.rawHeaders);
    const mayEnd = asksToDelete(request, found);
    const mayTeachByBody = bodies.some((body) => body.mayAnswer(request, found));
    if (!(mayTeach || mayEnd || mayTeachByBody) || isWithoutLessons(response)) return NOTHING;

    const lessons = mayTeach ? headers.read(request, found, response) : NOTHING;
    const body = mayTeachByBody ? openTap(request, found, response) : undefined;
    const shown = lessons.rawHeaders;
    return {
      learned: lessons.learned,
      hasEnded: lessons.hasEnded || (mayEnd && isSuccess(response)),
      rawHeaders: body?.isLonger ? withoutLength(shown ?? response.rawHeaders) : shown,
      tap: body?.tap,
    };
  };

  /** The head of the answer tells which of the lessons it may be that the request may get. */
  const openTap = (
    request: RequestHead,
    found: Extraction,
    response: ResponseHead,
  ): OpenBody | undefined => {
    for (const body of bodies) {
      const open = body.mayAnswer(request, found) ? body.open(response) : undefined;
      if (open) return open;
    }
    return undefined;
  };

  return {
    teachingNames: headers.names,
    mayTeachByBody: (head, found) =>
      bodies.some((body) => body.mayAnswer(head, found) && body.asksPlain(head)),
    fromHead,
  };
}

const NOTHING: HeadLessons = {
  learned: NO_LESSONS,
  hasEnded: false,
  rawHeaders: undefined,
  tap: undefined,
};

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

/** A hint makes the stream longer than the app has announced. */
function withoutLength(rawHeaders: readonly string[]): readonly string[] {
  const isLength = (i: number): boolean => isHeader(rawHeaders[i], 'content-length');
  return rawHeaders.filter((_, i) => !isLength(i - (i % 2)));
}

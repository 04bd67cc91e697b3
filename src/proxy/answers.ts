/** The answer's way back: what the app's answer teaches, and how the client may see it. */
import type { AffinityCookie } from '../affinity/affinity-cookie.ts';
import type { RequestHead } from '../affinity/extract.ts';
import type { BodyTap, Learner, Lesson, ResponseHead } from '../affinity/learn.ts';
import { statusOfUnknownSession } from '../affinity/refuse.ts';
import { isReplayAnswer } from '../affinity/replay-answer.ts';
import type { Bindings } from './bindings.ts';
import type { Routed } from './handler.ts';

/** How an answer goes out. */
export interface Revealed {
  /** With hints added. */
  readonly rawHeaders: readonly string[];
  /** Watches the body for the id that it teaches. */
  readonly tap: BodyTap | undefined;
}

export interface Answers {
  /** The app answered: a promise where a new id must be committed before it is revealed (invariant 2). */
  fromHead(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
  ): Revealed | Promise<Revealed>;
  /** A body taught an id. Resolves when what reveals it may go out. */
  fromBody(lesson: Lesson): Promise<void>;
}

/** `cookie`: what clients without a session id are to come back by, if there is such a thing. */
export function createAnswers(
  learner: Learner,
  bindings: Bindings,
  cookie?: AffinityCookie,
): Answers {
  function fromHead(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
  ): Revealed | Promise<Revealed> {
    const lessons = learner.fromHead(request, routed.extraction, response);
    noteUse(request, routed, response, lessons.hasEnded);
    const revealed: Revealed = {
      rawHeaders: withCookie(request, routed, { ...response, rawHeaders: lessons.rawHeaders }),
      tap: lessons.tap,
    };
    if (lessons.learned.length === 0) return revealed;
    return Promise.all(lessons.learned.map(({ id }) => bindings.learn(id))).then(() => revealed);
  }

  /** A session id says more than a cookie: who has one needs no cookie. */
  function withCookie(
    request: RequestHead,
    { extraction }: Routed,
    response: ResponseHead,
  ): readonly string[] {
    const isWanted = cookie !== undefined && extraction.kind === 'none';
    return isWanted ? cookie.addTo(response, request) : response.rawHeaders;
  }

  /** What an answer says of the session that the request named. */
  function noteUse(
    request: RequestHead,
    routed: Routed,
    response: ResponseHead,
    hasEnded: boolean,
  ): void {
    const { key, binding, decision, extraction } = routed;
    if (key === undefined || extraction.kind !== 'found') return;
    if (hasEnded) {
      bindings.end(key);
      return;
    }
    if (decision.kind !== 'local') return;
    const isOurs = binding !== undefined && decision.adoptFrom === undefined;
    if (isOurs) {
      // "Unknown" unbinds nothing, and is no use either: the row just does not slide.
      const isUnknown = response.statusCode === statusOfUnknownSession(extraction.protocol);
      if (!isUnknown) bindings.slide(binding);
    } else if (decision.mayAdopt && accepts(request, response)) {
      bindings.adopt(key, decision.adoptFrom);
    }
  }

  return {
    fromHead,
    fromBody: ({ id }) => bindings.learn(id),
  };
}

/** Only the app's own acceptance creates a binding (invariant 2 of the design). */
function accepts(request: RequestHead, response: ResponseHead): boolean {
  if (request.method === 'OPTIONS' || request.method === 'HEAD') return false;
  const { statusCode } = response;
  const isAccepted = (statusCode >= 200 && statusCode < 300) || statusCode === 101;
  return isAccepted && !isReplayAnswer(response);
}

/**
 * `/drain` of the admin listener, for those who bring `ADMIN_TOKEN`: an operator empties this
 * Machine without ending it.
 *
 * ```
 * GET  /drain      how it stands, and how much is left
 * POST /drain      takes no new sessions from now on; those that live here are served
 * POST /undrain    takes new sessions again; 409 once a signal has told this Machine to end
 * ```
 * Each may be said twice. What was said is forgotten with the process.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { respondJson } from './answer.ts';
import { createTokenCheck, type TokenCheckOptions } from './token.ts';
import type { Draining } from '../routing/draining.ts';

export interface DrainRoutesOptions extends TokenCheckOptions {
  readonly draining: Draining;
  /** Requests under way, streams and WebSockets among them. */
  readonly countOpenRequests: () => number;
  /** Sessions that live here; undefined where the store can't say. Never rejects; may take its time. */
  readonly countOwnSessions: () => Promise<number | undefined>;
}

export interface DrainRoutes {
  /** Whether the path is one of these; then the request is answered. */
  answer(request: IncomingMessage, response: ServerResponse): boolean;
  /** Resolves once nothing is under way. */
  ended(): Promise<void>;
}

type Action = 'look' | 'drain' | 'undrain';

const PATHS: ReadonlyMap<string, ReadonlyMap<string, Action>> = new Map([
  [
    '/drain',
    new Map<string, Action>([
      ['GET', 'look'],
      ['HEAD', 'look'],
      ['POST', 'drain'],
    ]),
  ],
  ['/undrain', new Map<string, Action>([['POST', 'undrain']])],
]);

/** A million sessions are counted in this time; a store that hangs must not keep the answer, in ms. */
const COUNT_LIMIT_MS = 10_000;

const IS_ENDING = 'a signal has told this Machine to end: it takes no new sessions any more';

export function createDrainRoutes(options: DrainRoutesOptions): DrainRoutes {
  const { draining, logger, clock } = options;
  const isAuthorized = createTokenCheck(options);
  const running = new Set<Promise<void>>();

  function answer(request: IncomingMessage, response: ServerResponse): boolean {
    const [path = ''] = (request.url ?? '').split('?', 1);
    const actions = PATHS.get(path);
    if (!actions) return false;
    if (!isAuthorized(request)) {
      response.setHeader('www-authenticate', 'Bearer');
      respondJson(response, 401, { error: 'wants Authorization: Bearer ADMIN_TOKEN' });
      return true;
    }
    const action = actions.get(request.method ?? '');
    if (action) {
      const answering = carryOut(action, response).finally(() => running.delete(answering));
      running.add(answering);
    } else {
      response.setHeader('allow', [...actions.keys()].join(', '));
      respondJson(response, 405, { error: 'method not allowed' });
    }
    return true;
  }

  async function carryOut(action: Action, response: ServerResponse): Promise<void> {
    if (action === 'drain' && draining.drain()) {
      logger.info({}, 'drained by the operator: new sessions go elsewhere');
    }
    if (action === 'undrain' && draining.undrain()) {
      logger.info({}, 'the operator has ended the drain: new sessions are taken again');
    }
    const isRefused = action === 'undrain' && draining.state() === 'ending';
    const ownSessions = await countInTime(response);
    respondJson(response, isRefused ? 409 : 200, {
      ...(isRefused && { error: IS_ENDING }),
      state: draining.state(),
      ownSessions,
      openRequests: options.countOpenRequests(),
    });
  }

  /** Undefined if it takes too long, or nobody waits any more. A walk under way ends with the store. */
  function countInTime(response: ServerResponse): Promise<number | undefined> {
    return new Promise((resolve) => {
      const end = (count?: number): void => {
        cancel();
        resolve(count);
      };
      const cancel = clock.after(COUNT_LIMIT_MS, () => end());
      response.once('close', () => end());
      void options.countOwnSessions().then(end);
    });
  }

  return {
    answer,
    ended: async () => {
      await Promise.all(running);
    },
  };
}

/**
 * `/drain` and `/undrain`: an operator empties this Machine without stopping it.
 *
 * ```
 * GET  /drain      the drain state, and how much is left
 * POST /drain      take no new sessions; the sessions of this Machine are still served
 * POST /undrain    take new sessions again; 409 once a signal is stopping this Machine
 * ```
 * Each may be repeated. The state ends with the process.
 */
import type { ServerResponse } from 'node:http';
import { respondJson, type AdminCall } from './router.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import type { Draining } from '../routing/placement.ts';

export interface DrainParts {
  readonly draining: Draining;
  /** Requests in flight, streams and WebSockets included. */
  readonly countOpenRequests: () => number;
  /** Sessions that this Machine owns; undefined if the store fails. Never rejects; may take long. */
  readonly countOwnSessions: () => Promise<number | undefined>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function drainStatus({ response }: AdminCall, parts: DrainParts): Promise<void> {
  return respondStatus(response, parts);
}

export function drain({ response }: AdminCall, parts: DrainParts): Promise<void> {
  if (parts.draining.drain()) {
    parts.logger.info({}, 'drained by the operator: new sessions go to other Machines');
  }
  return respondStatus(response, parts);
}

export function undrain({ response }: AdminCall, parts: DrainParts): Promise<void> {
  if (parts.draining.undrain()) {
    parts.logger.info({}, 'drain ended by the operator: this Machine takes new sessions again');
  }
  return respondStatus(response, parts, parts.draining.state() === 'ending');
}

const IS_STOPPING = 'a signal is stopping this Machine: it takes no new sessions';

async function respondStatus(
  response: ServerResponse,
  parts: DrainParts,
  isConflict = false,
): Promise<void> {
  const ownSessions = await countInTime(response, parts);
  respondJson(response, isConflict ? 409 : 200, {
    ...(isConflict && { error: IS_STOPPING }),
    state: parts.draining.state(),
    ownSessions,
    openRequests: parts.countOpenRequests(),
  });
}

/** In ms: enough to count a million sessions, and the limit for a store that hangs. */
const COUNT_TIMEOUT_MS = 10_000;

/** Undefined if it takes too long or the client disconnects. */
function countInTime(
  response: ServerResponse,
  { clock, countOwnSessions }: DrainParts,
): Promise<number | undefined> {
  return new Promise((resolve) => {
    const end = (count?: number): void => {
      cancel();
      resolve(count);
    };
    const cancel = clock.after(COUNT_TIMEOUT_MS, () => end());
    response.once('close', () => end());
    void countOwnSessions().then(end);
  });
}

/**
 * A request as a client of Fly.io sends it: the first Machine is arbitrary, and one replay is followed.
 */
import { systemClock } from '../../../src/clock.ts';
import { Failure, wrong } from './failure.ts';
import {
  checkNotDown,
  checkStatus,
  sendRequest,
  type SoakResponse,
  type RequestOptions,
} from './send-request.ts';
import type { Machine } from './machine.ts';
import { replaySource, replayTarget } from './replays.ts';
import type { Step } from './step.ts';

/** A sidecar's `Retry-After`, in ms. */
const RETRY_MS = 1_000;

/** The first Machine of a request, and the app that must respond. */
export interface Way {
  readonly to: Machine;
  /** What routes it, as whole lines. */
  readonly fields: readonly string[];
  /** The Machine of its session; undefined if there is none. */
  readonly owner: string | undefined;
}

/** Rejects unless the right app has responded with the expected status. */
export async function call(step: Step, way: Way, options: RequestOptions): Promise<SoakResponse> {
  const response = await callAnyStatus(step, way, options);
  checkStatus(response, options.expects ?? 200);
  return response;
}

/** The same, with any status of an app. */
export function callAnyStatus(
  step: Step,
  way: Way,
  options: RequestOptions,
): Promise<SoakResponse> {
  return orLater(step, () => tryCall(step, way, options));
}

/** Retries once if a sidecar requests it while no app is down. The retry is counted. */
export async function orLater<T>(step: Step, attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    const isLater = error instanceof Failure && error.isLater && !step.isExplained(error);
    if (!isLater) throw error;
    step.noteLater();
    await systemClock.sleep(RETRY_MS);
    return attempt();
  }
}

async function tryCall(step: Step, way: Way, options: RequestOptions): Promise<SoakResponse> {
  const { to, owner } = way;
  const id = step.beginRequest(to, owner);
  const fields = [...(options.fields ?? []), ...way.fields];
  const response = await callOnce(step, to, { ...options, fields }, id);
  const next = replayTarget(step, response, to);
  if (!next) return checkApp(response, owner ?? to.name);
  step.replayTo(next);
  const source = replaySource(response, to);
  const replayed = await callOnce(step, next, { ...options, fields: [...fields, source] }, id);
  const again = replayed.fields.get('fly-replay');
  if (again !== undefined) throw wrong(`replayed twice: ${again}`);
  return checkApp(replayed, owner ?? next.name);
}

async function callOnce(
  step: Step,
  to: Machine,
  options: RequestOptions,
  id: string,
): Promise<SoakResponse> {
  const { connections } = step.around;
  const connection = await connections.take(to);
  let isReusable = false;
  try {
    const response = await sendRequest(step, connection, options, id);
    isReusable = response.isKeptAlive && response.wasSentWhole;
    return response;
  } finally {
    if (isReusable) connections.give(connection);
    else connection.destroy();
  }
}

function checkApp(response: SoakResponse, expected: string): SoakResponse {
  checkNotDown(response);
  const { app } = response;
  if (app === undefined || app === expected) return response;
  throw wrong(`${app} responded in place of ${expected}`);
}

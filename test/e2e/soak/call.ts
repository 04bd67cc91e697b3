/** A request as a client of Fly.io makes it: some Machine gets it, and a replay is followed, once. */
import { systemClock } from '../../../src/clock.ts';
import { Failure, wrong } from './failure.ts';
import {
  checkNotDown,
  checkStatus,
  exchange,
  type Answer,
  type ExchangeOptions,
} from './exchange.ts';
import type { Machine } from './machine.ts';
import { replaySource, replayTarget } from './replays.ts';
import type { Step } from './step.ts';

/** A sidecar's `Retry-After`, in ms. */
const RETRY_MS = 1_000;

/** Where a request goes first, and whose app has to answer it. */
export interface Way {
  readonly to: Machine;
  /** What routes it, as whole lines. */
  readonly fields: readonly string[];
  /** Whose session it is; undefined if there is none. */
  readonly owner: string | undefined;
}

/** Rejects unless the right app has answered with the status expected. */
export async function call(step: Step, way: Way, options: ExchangeOptions): Promise<Answer> {
  const answer = await callAnyStatus(step, way, options);
  checkStatus(answer, options.expects ?? 200);
  return answer;
}

/** The same, with whatever status an app has answered. */
export function callAnyStatus(step: Step, way: Way, options: ExchangeOptions): Promise<Answer> {
  return orLater(step, () => tryCall(step, way, options));
}

/** Tries once more, if a sidecar asks for it while no app is down. It is counted. */
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

async function tryCall(step: Step, way: Way, options: ExchangeOptions): Promise<Answer> {
  const { to, owner } = way;
  const id = step.beginRequest(to, owner);
  const fields = [...(options.fields ?? []), ...way.fields];
  const answer = await callOnce(step, to, { ...options, fields }, id);
  const next = replayTarget(step, answer, to);
  if (!next) return checkApp(answer, owner ?? to.name);
  step.replayTo(next);
  const source = replaySource(answer, to);
  const replayed = await callOnce(step, next, { ...options, fields: [...fields, source] }, id);
  const again = replayed.fields.get('fly-replay');
  if (again !== undefined) throw wrong(`replayed twice: ${again}`);
  return checkApp(replayed, owner ?? next.name);
}

async function callOnce(
  step: Step,
  to: Machine,
  options: ExchangeOptions,
  id: string,
): Promise<Answer> {
  const { connections } = step.around;
  const connection = await connections.take(to);
  let isReusable = false;
  try {
    const answer = await exchange(step, connection, options, id);
    isReusable = answer.isKeptAlive && answer.wasSentWhole;
    return answer;
  } finally {
    if (isReusable) connections.give(connection);
    else connection.destroy();
  }
}

function checkApp(answer: Answer, expected: string): Answer {
  checkNotDown(answer);
  const { app } = answer;
  if (app === undefined || app === expected) return answer;
  throw wrong(`${app} answered in place of ${expected}`);
}

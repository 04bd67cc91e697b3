/**
 * A session from its first call to its last: each call reaches the app that owns it, whichever
 * Machine receives it first.
 */
import { systemClock } from '../../../../src/clock.ts';
import { drawBody, jsonOf } from '../bodies.ts';
import { callAnyStatus, type Way } from '../call.ts';
import { checkStatus, type SoakResponse } from '../send-request.ts';
import { lost, wrong } from '../failure.ts';
import { openSession, wayTo, type Session, type SessionState } from '../sessions.ts';
import type { Step } from '../step.ts';

const MAX_CALLS = 10;
const MAX_PAUSE_MS = 200;
const MAX_BODY_BYTES = 2_000;
const DELETE_SHARE = 0.6;
/** An app's response for a session that it does not have. */
const NOT_FOUND = 404;

export async function useSession(step: Step): Promise<void> {
  const { chance } = step;
  const sinceMs = systemClock.monotonicMs();
  const session = await openSession(step);
  const lastCall = chance.integer(2, MAX_CALLS);
  for (let calls = 2; calls <= lastCall; calls += 1) {
    await systemClock.sleep(chance.integer(0, MAX_PAUSE_MS));
    const response = await callSession(step, wayTo(step, session), 'POST', sinceMs);
    checkState(jsonOf(response) as SessionState, session, calls);
  }
  if (chance.isTrue(DELETE_SHARE)) await endSession(step, session, sinceMs);
}

async function callSession(
  step: Step,
  way: Way,
  method: 'POST' | 'DELETE',
  sinceMs: number,
): Promise<SoakResponse> {
  const response = await callAnyStatus(step, way, {
    method,
    target: '/mcp',
    ...(method === 'POST' && { body: drawBody(step, 1, MAX_BODY_BYTES) }),
  });
  if (response.status === NOT_FOUND) {
    throw lost('the session is lost', systemClock.monotonicMs() - sinceMs);
  }
  checkStatus(response, method === 'POST' ? 200 : 204);
  return response;
}

/** Each call counts once: none was lost, and none was repeated. */
function checkState(state: SessionState, { minted }: Session, calls: number): void {
  if (state.session !== minted) throw wrong(`the app received ${state.session}, not ${minted}`);
  if (state.calls !== calls) throw wrong(`the app has counted ${state.calls} calls, not ${calls}`);
}

async function endSession(step: Step, session: Session, sinceMs: number): Promise<void> {
  await callSession(step, wayTo(step, session), 'DELETE', sinceMs);
  // The hint still leads to the app that owned it.
  const way = wayTo(step, { ...session, minted: session.id });
  const response = await callAnyStatus(step, way, { method: 'POST', target: '/mcp' });
  checkStatus(response, NOT_FOUND);
}

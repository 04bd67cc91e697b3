/** A session of a product's own client, and its use around a disturbance. */
import assert from 'node:assert/strict';
import { systemClock } from '../../../../src/clock.ts';
import type { Counted } from '../../support/mcp-client.ts';
import { MAX_TRIES, RETRY_AFTER_MS } from '../../support/retrying-fetch.ts';

export interface ProductSession {
  /** One more call; rejects unless the process with the session responds. */
  call(): Promise<void>;
}

const ROUNDS = 4;

/** `opened`: the process that opened the session, and the number of calls until now. */
export function createProductSession(
  name: string,
  opened: Counted,
  callServer: () => Promise<Counted>,
): ProductSession {
  let last = opened;
  return {
    call: async () => {
      const now = await callServer();
      assert.deepEqual(now, { ...last, count: last.count + 1 }, name);
      last = now;
    },
  };
}

/** Every session several times before the disturbance, and as often after it. */
export async function callAround(
  sessions: readonly ProductSession[],
  midway: () => Promise<void>,
): Promise<void> {
  await callInTurn(sessions);
  await midway();
  await callInTurn(sessions);
}

/** To and fro: an edge that takes its Machines in turn must not find each session by chance. */
async function callInTurn(sessions: readonly ProductSession[]): Promise<void> {
  const reversed = sessions.toReversed();
  for (let round = 1; round <= ROUNDS; round += 1) {
    for (const session of round % 2 === 0 ? reversed : sessions) await session.call();
  }
}

/** For clients that report a 503 as an error of their own. */
export async function retryUnavailable<Result>(
  isUnavailable: (error: unknown) => boolean,
  call: () => Promise<Result>,
): Promise<Result> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call();
    } catch (error) {
      if (!isUnavailable(error) || tries === MAX_TRIES) throw error;
      await systemClock.sleep(RETRY_AFTER_MS);
    }
  }
}

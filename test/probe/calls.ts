/** What the tests of all probes do with a session. */
import assert from 'node:assert/strict';
import type { ProbeClient } from '../../src/probe/http-client.ts';
import type { Loss, Opening, Probe, ProbeSession } from '../../src/probe/probe.ts';

export function assertOpened(opening: Opening): ProbeSession {
  assert.ok(opening.kind === 'opened', JSON.stringify(opening));
  return opening.session;
}

/** The losses of that many calls in a new session; undefined for each call that found it. */
export async function lossesOf(
  probe: Probe,
  client: ProbeClient,
  calls: number,
): Promise<readonly (Loss | undefined)[]> {
  const session = assertOpened(await probe.open(client));
  const losses: (Loss | undefined)[] = [];
  for (let i = 0; i < calls; i += 1) losses.push((await session.call()).loss);
  await session.close();
  return losses;
}

/** graphql-ws's own client: queries and subscriptions over one connection, which is the session. */
import assert from 'node:assert/strict';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';

const Queried = z.object({ data: z.object({ count: Counted }) });
const Step = z.object({ data: z.object({ steps: Counted }) });

export async function runGraphQlScenario({ url }: Target): Promise<void> {
  const client = createClient({
    url: `${url.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    // A lost session must not be hidden by a new one.
    retryAttempts: 0,
    lazy: false,
    onNonLazyError: () => undefined,
  });
  const runQuery = async (query: string): Promise<unknown[]> => {
    const results: unknown[] = [];
    for await (const result of client.iterate({ query })) results.push(result);
    return results;
  };
  const count = async (): Promise<Counted> => {
    const [result] = await runQuery('{ count { machine pid count } }');
    return { ...Queried.parse(result).data.count };
  };
  try {
    const { machine, pid } = await count();
    for (const expected of [2, 3, 4]) {
      assert.deepEqual(await count(), { machine, pid, count: expected });
    }
    const steps = await runQuery('subscription { steps { machine pid count } }');
    assert.deepEqual(
      steps.map((step) => Step.parse(step).data.steps),
      [5, 6, 7].map((expected) => ({ machine, pid, count: expected })),
    );
    assert.deepEqual(await count(), { machine, pid, count: 8 });
  } finally {
    await client.dispose();
  }
}

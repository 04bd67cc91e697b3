/** Gradio's own client, and its two requests for programs without it. */
import assert from 'node:assert/strict';
import * as gradio from '@gradio/client';
import { z } from 'zod';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';

const CALLS_OF_EACH_HALF = 4;

/** The part that is used here: its own declarations do not resolve as Node resolves modules. */
interface GradioClient {
  fetch: typeof fetch;
  predict(endpoint: string, data: readonly unknown[]): Promise<{ readonly data: unknown }>;
  close(): void;
}

const Client = gradio.Client as unknown as { connect(url: string): Promise<GradioClient> };

export async function runGradio(target: Target, midway: () => Promise<void>): Promise<void> {
  const client = await Client.connect(target.url);
  client.fetch = retryingFetch;
  const { machine, pid } = await predict(client);
  let count = 1;
  const callAll = async (): Promise<void> => {
    for (let calls = 1; calls <= CALLS_OF_EACH_HALF; calls += 1) {
      assert.deepEqual(await predict(client), { machine, pid, count: (count += 1) });
      await callByTwoRequests(target);
    }
  };
  await callAll();
  await midway();
  await callAll();
  client.close();
}

async function predict(client: GradioClient): Promise<Counted> {
  const { data } = await client.predict('/count', []);
  return z.tuple([Counted]).parse(data)[0];
}

/** https://www.gradio.app/guides/querying-gradio-apps-with-curl */
async function callByTwoRequests({ url }: Target): Promise<void> {
  const address = `${url}/gradio_api/call/count`;
  const created = await retryingFetch(address, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ data: [] }),
  });
  const { event_id: id } = z.object({ event_id: z.string() }).parse(await created.json());
  const result = await retryingFetch(`${address}/${id}`);
  assert.match(await result.text(), /^event: complete\ndata: \[\{/);
}

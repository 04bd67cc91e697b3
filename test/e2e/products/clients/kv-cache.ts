/** Completions with one `prompt_cache_key`: all must reach the Machine whose cache has it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type OpenAI from 'openai';
import { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import { createOpenAi } from './openai.ts';

const PAIRS_OF_EACH_HALF = 2;

export async function runKvCache(target: Target, midway: () => Promise<void>): Promise<void> {
  const client = createOpenAi(target);
  const key = randomUUID();
  const { machine, pid } = await complete(client, key);
  let count = 1;
  const completeAll = async (): Promise<void> => {
    for (let pairs = 1; pairs <= PAIRS_OF_EACH_HALF; pairs += 1) {
      for (const call of [complete, completeStreamed]) {
        assert.deepEqual(await call(client, key), { machine, pid, count: (count += 1) });
      }
    }
  };
  await completeAll();
  await midway();
  await completeAll();
}

function paramsFor(key: string): OpenAI.ChatCompletionCreateParamsNonStreaming {
  const messages = [{ role: 'user' as const, content: 'count' }];
  return { model: 'counting', messages, prompt_cache_key: key };
}

async function complete(client: OpenAI, key: string): Promise<Counted> {
  const { choices } = await client.chat.completions.create(paramsFor(key));
  return Counted.parse(JSON.parse(choices[0]?.message.content ?? ''));
}

async function completeStreamed(client: OpenAI, key: string): Promise<Counted> {
  const stream = await client.chat.completions.create({ ...paramsFor(key), stream: true });
  let content = '';
  for await (const { choices } of stream) content += choices[0]?.delta.content ?? '';
  return Counted.parse(JSON.parse(content));
}

/**
 * A small server of OpenAI's Chat Completions API, which counts the prompts of each
 * `prompt_cache_key`, as its cache would be filled by them. Any Machine may respond, but a cache of
 * another is cold.
 */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';
import { HERE, respondJson, type Door } from '../../apps/door.ts';
import { beginEventStream, writeEvent } from './event-stream.ts';

const Completion = z.object({
  model: z.string(),
  prompt_cache_key: z.string(),
  stream: z.boolean().nullish(),
});

export function createKvCacheDoor(): Door {
  const prompts = new Map<string, number>();
  return {
    paths: ['/v1/chat/completions'],
    handle: async (request, response) => {
      const { prompt_cache_key: key, model, stream } = Completion.parse(await json(request));
      const count = (prompts.get(key) ?? 0) + 1;
      prompts.set(key, count);
      const content = JSON.stringify({ ...HERE, count });
      if (stream === true) sendStream(response, model, content);
      else respondJson(response, 200, completion(model, content));
    },
  };
}

function completion(model: string, content: string): object {
  const message = { role: 'assistant', content, refusal: null };
  return {
    ...{ id: `chatcmpl-${randomUUID()}`, object: 'chat.completion', created: 0, model },
    choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
  };
}

function sendStream(response: ServerResponse, model: string, content: string): void {
  beginEventStream(response);
  const chunk = {
    id: `chatcmpl-${randomUUID()}`,
    object: 'chat.completion.chunk',
    created: 0,
    model,
  };
  const delta = { role: 'assistant', content };
  writeEvent(response, { ...chunk, choices: [{ index: 0, delta, finish_reason: null }] });
  writeEvent(response, { ...chunk, choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] });
  writeEvent(response, '[DONE]');
  response.end();
}

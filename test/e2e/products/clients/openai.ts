import OpenAI from 'openai';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';

export function createOpenAi({ url }: Target): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, fetch: retryingFetch });
}

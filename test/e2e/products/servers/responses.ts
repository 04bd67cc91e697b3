/**
 * A small server of OpenAI's Responses API: each response is kept in memory, and counts those
 * before it in its chain (https://platform.openai.com/docs/api-reference/responses).
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';
import { HERE, respondJson, urlOf, type Door } from '../../apps/door.ts';
import { noteOpened, noteRequest } from '../../apps/journal.ts';
import { beginEventStream, writeEvent } from './event-stream.ts';

const PATH = '/v1/responses';

const Creation = z.object({
  model: z.string(),
  input: z.string(),
  previous_response_id: z.string().nullish(),
  stream: z.boolean().nullish(),
});

interface Stored {
  readonly id: string;
  readonly count: number;
  readonly previousId: string | null;
  readonly model: string;
}

export function createResponsesDoor(): Door {
  const kept = new Map<string, Stored>();

  function find(request: IncomingMessage, id: string): Stored | undefined {
    noteRequest(request, id, kept.has(id));
    return kept.get(id);
  }

  async function create(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { previous_response_id: previousId, model, stream } = Creation.parse(await json(request));
    const previous = previousId == null ? undefined : find(request, previousId);
    if (previousId != null && !previous) {
      respondError(response, 400, `Previous response with id '${previousId}' not found.`);
      return;
    }
    const count = (previous?.count ?? 0) + 1;
    const stored = { id: newId('resp'), count, previousId: previousId ?? null, model };
    kept.set(stored.id, stored);
    noteOpened(stored.id);
    if (stream === true) sendStream(response, stored);
    else respondJson(response, 200, shown(stored));
  }

  return {
    paths: [PATH, `${PATH}/`],
    handle: async (request, response) => {
      const { pathname } = urlOf(request);
      if (pathname === PATH) {
        await create(request, response);
        return;
      }
      const id = pathname.slice(PATH.length + 1);
      const stored = find(request, id);
      if (stored) respondJson(response, 200, shown(stored));
      else respondError(response, 404, `Response with id '${id}' not found.`);
    },
  };
}

function shown({ id, count, previousId, model }: Stored): object {
  const text = JSON.stringify({ ...HERE, count });
  const content = [{ type: 'output_text', text, annotations: [] }];
  return {
    ...{ id, object: 'response', created_at: 0, status: 'completed', model },
    ...{ error: null, previous_response_id: previousId, parallel_tool_calls: true, tools: [] },
    output: [
      { id: newId('msg'), type: 'message', role: 'assistant', status: 'completed', content },
    ],
  };
}

function sendStream(response: ServerResponse, stored: Stored): void {
  beginEventStream(response);
  const completed = shown(stored);
  const events = [
    { type: 'response.created', response: { ...completed, status: 'in_progress', output: [] } },
    { type: 'response.completed', response: completed },
  ];
  for (const [index, event] of events.entries()) {
    writeEvent(response, { ...event, sequence_number: index }, event.type);
  }
  response.end();
}

function respondError(response: ServerResponse, status: number, message: string): void {
  const error = { message, type: 'invalid_request_error', param: null, code: null };
  respondJson(response, status, { error, ...HERE });
}

function newId(prefix: string): string {
  return `${prefix}_${randomBytes(24).toString('hex')}`;
}

/** A chain of responses, each by the id of the one before; some are streamed, some read again. */
import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import { createOpenAi } from './openai.ts';

type Created = OpenAI.Responses.Response;

const MODEL = 'counting';
const RESPONSES_OF_EACH_HALF = 4;

export async function runResponses(target: Target, midway: () => Promise<void>): Promise<void> {
  const client = createOpenAi(target);
  let latest = await client.responses.create({ model: MODEL, input: 'count' });
  const { machine, pid } = countedIn(latest);
  let count = 1;
  const continueChain = async (): Promise<void> => {
    for (let responses = 1; responses <= RESPONSES_OF_EACH_HALF; responses += 1) {
      const isStreamed = responses % 2 === 0;
      latest = await (isStreamed ? createStreamed : create)(client, latest.id);
      count += 1;
      assert.deepEqual(countedIn(latest), { machine, pid, count });
      assert.deepEqual(countedIn(await client.responses.retrieve(latest.id)), {
        machine,
        pid,
        count,
      });
    }
  };
  await continueChain();
  await midway();
  await continueChain();
}

function create(client: OpenAI, previous: string): Promise<Created> {
  return client.responses.create({ model: MODEL, input: 'count', previous_response_id: previous });
}

async function createStreamed(client: OpenAI, previous: string): Promise<Created> {
  const params = { model: MODEL, input: 'count', previous_response_id: previous };
  const stream = await client.responses.create({ ...params, stream: true });
  for await (const event of stream) {
    if (event.type === 'response.completed') return event.response;
  }
  throw new Error('the stream ended early');
}

/** `output_text` is not set on a response from a stream. */
function countedIn({ output }: Created): Counted {
  const [message] = output;
  const content = message?.type === 'message' ? message.content[0] : undefined;
  assert.ok(content?.type === 'output_text');
  return Counted.parse(JSON.parse(content.text));
}

/**
 * The responses of the `discovery` bench: those that `auto` inspects by the path of their request, and the same
 * where it does not.
 */
import { randomUUID } from 'node:crypto';
import { LARGE_BYTES } from './answers.ts';

/** As of Jupyter. */
export const INSPECTED_JSON_PATH = '/api/kernels';
export const OTHER_JSON_PATH = '/other';

/** As of OpenAI's Responses API. */
export const REVEALING_STREAM_PATH = '/v1/responses';
export const SILENT_STREAM_PATH = '/silent/responses';
export const OTHER_STREAM_PATH = '/silent/other';
/** Not inspected: each stream is a session of MCP, whose id is in a header. */
export const HEADER_STREAM_PATH = '/header/other';
/** The query for a stream that the app writes at once; otherwise each message is one write. */
export const AT_ONCE = '?at-once';

const STREAM_MESSAGES = 10_000;

const KERNEL = { name: 'python3', state: 'idle', connections: 1, path: 'a/notebook.ipynb' };

/** No id is where the sidecar looks for one, so it reads all that it holds. */
export const LARGE_JSON = Buffer.from(listOfKernels());

function listOfKernels(): string {
  const kernel = JSON.stringify(KERNEL);
  const count = Math.floor(LARGE_BYTES / (kernel.length + 1)) - 1;
  return `{"kernels":[${Array.from({ length: count }, () => kernel).join()}]}`.padEnd(LARGE_BYTES);
}

function messageOf(event: string, fields: object): string {
  return `event: ${event}\ndata: ${JSON.stringify({ type: event, ...fields })}\n\n`;
}

const TEXT_DELTA = messageOf('response.output_text.delta', {
  ...{ item_id: 'msg_67c9fdcf37fc8190ba82116e33fb28c5', output_index: 0, content_index: 0 },
  delta: 'word ',
});

export const SILENT_MESSAGES: readonly string[] = Array.from(
  { length: STREAM_MESSAGES },
  () => TEXT_DELTA,
);

/** A new id each time, as from an app. */
export function revealingMessage(): string {
  const id = `resp_${randomUUID().replaceAll('-', '')}`;
  return messageOf('response.created', { response: { id, object: 'response', output: [] } });
}

/** A line of a head. A new id each time too. */
export function revealingHeader(): string {
  return `mcp-session-id: ${randomUUID()}\r\n`;
}

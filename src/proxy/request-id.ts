/**
 * The id of the JSON-RPC request in a body, for an answer of our own that is to name it (JSON-RPC 2.0
 * §5). The body is read for nothing else, and only as far as it is short and comes soon.
 */
import type { IncomingMessage } from 'node:http';
import { asObject, parseJson } from '../affinity/json.ts';
import type { JsonRpcId } from '../affinity/refuse.ts';
import type { Cancel, Clock } from '../clock.ts';

/** Of a longer body no id is read, in bytes (invariant 8). */
const MAX_BODY_BYTES = 16_384;
/** How long a body may take to come, in ms: the refusal needs no id to be understood. */
const MAX_WAIT_MS = 1_000;

/**
 * Calls `onRead` once: with the id, or `undefined` if there is none, or it can't be had. What follows
 * in the body is dropped. Calling the returned function ends the reading without a call.
 */
export function readRequestId(
  req: IncomingMessage,
  clock: Clock,
  onRead: (requestId: JsonRpcId | undefined) => void,
): Cancel {
  const chunks: Buffer[] = [];
  let bytes = 0;

  const stop = (): void => {
    cancelTimer();
    req.off('data', onData).off('end', onEnd);
    // Without a listener what comes is dropped, so that the connection stays in step.
    req.resume();
  };
  const finish = (requestId: JsonRpcId | undefined): void => {
    stop();
    onRead(requestId);
  };
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES) finish(undefined);
  };
  const onEnd = (): void => finish(requestIdIn(Buffer.concat(chunks)));

  const cancelTimer = clock.after(MAX_WAIT_MS, () => finish(undefined));
  req.on('data', onData).on('end', onEnd);
  return stop;
}

/** A notification has none, a batch has several, and the id of a client's own answer is not a request's. */
export function requestIdIn(body: Uint8Array): JsonRpcId | undefined {
  const { method, id } = asObject(parseJson(textOf(body))) ?? {};
  if (typeof method !== 'string') return undefined;
  // A number that JavaScript can't tell from its neighbour would be another one on its way back.
  return typeof id === 'string' || (typeof id === 'number' && Number.isSafeInteger(id))
    ? id
    : undefined;
}

function textOf(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    // What is no UTF-8 is no JSON (RFC 8259 §8.1).
    return '';
  }
}

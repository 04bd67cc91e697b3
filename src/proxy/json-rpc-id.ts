/**
 * The id of the JSON-RPC request in a body, for a response of the sidecar's own that names it (JSON-RPC
 * 2.0 §5). The body is read for nothing else, and only if it is short and comes soon.
 */
import { asObject, parseJson } from '../json.ts';
import type { JsonRpcId } from '../protocols/error-responses.ts';

/** Of a longer body no id is read, in bytes (invariant 8). */
export const MAX_ID_BODY_BYTES = 16_384;
/** How long a body may take to come, in ms: the error needs no id to be understood. */
export const MAX_ID_WAIT_MS = 1_000;

/** A notification has none, a batch has several, and the id of a client's own response is not a request's. */
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

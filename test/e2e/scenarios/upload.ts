/** Files that are too large for a replay, into a session that another Machine owns. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { retryingFetch } from '../support/retrying-fetch.ts';
import type { Target } from '../support/target.ts';
import { openRpcSession } from './rpc.ts';

const Received = z.object({
  machine: z.string(),
  pid: z.number(),
  bytes: z.number(),
  sha256: z.string(),
  count: z.number(),
});

const UPLOAD_BYTES = 5_000_000;

export async function runUploadScenario(target: Target): Promise<void> {
  const { id, machine, pid } = await openRpcSession(target);
  const file = randomBytes(UPLOAD_BYTES);
  const sha256 = createHash('sha256').update(file).digest('hex');
  const expected = { machine, pid, bytes: UPLOAD_BYTES, sha256 };
  assert.deepEqual(await upload(target, id, () => file), { ...expected, count: 1 });
  // To the edge a forwarded response looks like the forwarder's own: this call reveals the owner.
  await retryingFetch(`${target.url}/rpc/call?session_id=${id}`);
  // Of unknown length, so it is sent in chunks.
  assert.deepEqual(await upload(target, id, () => inPieces(file)), { ...expected, count: 3 });
}

export async function upload(
  { url }: Target,
  id: string,
  bodyOf: () => Buffer<ArrayBuffer> | ReadableStream<Uint8Array>,
): Promise<z.infer<typeof Received>> {
  const address = `${url}/rpc/upload?session_id=${id}`;
  const response = await retryingFetch(address, { method: 'POST', body: bodyOf(), duplex: 'half' });
  assert.equal(response.status, 200);
  return Received.parse(await response.json());
}

const PIECE_BYTES = 60_000;

export function inPieces(file: Buffer<ArrayBuffer>): ReadableStream<Uint8Array> {
  let sent = 0;
  return new ReadableStream({
    pull: (controller) => {
      if (sent >= file.length) controller.close();
      else controller.enqueue(new Uint8Array(file.subarray(sent, (sent += PIECE_BYTES))));
    },
  });
}

/** Tables for the rows of presets: which ids their requests carry, and what their responses reveal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import { createDiscoverer, type HeadDiscoveries } from '../../src/protocols/discoveries.ts';
import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import type { Protocol } from '../../src/protocols/protocol.ts';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createTestClock } from '../support/clock.ts';
import { describeIds, machine, protocolsOf } from './heads.ts';

/** `expected`: in the notation of {@link describeIds}. */
type RequestRow = readonly [claim: string, head: RequestHead, expected: string];

export function testRequests(setting: string, rows: readonly RequestRow[]): void {
  const readIds = createRequestIdReader(protocolsOf(setting), { hints: true });
  for (const [claim, head, expected] of rows)
    test(`${setting}, requests: ${claim}`, () =>
      assert.equal(describeIds(readIds(head)), expected));
}

/** `reveals`: in the notation of {@link describeIds}, in order. */
type ResponseRow = readonly [
  claim: string,
  request: RequestHead,
  response: ResponseHead,
  body: string,
  reveals: readonly string[],
];

/** Each body comes in one piece, and one byte at a time. */
export function testResponses(setting: string, rows: readonly ResponseRow[]): void {
  for (const [claim, request, response, body, reveals] of rows)
    test(`${setting}, responses: ${claim}`, () => {
      for (const chunks of [[body], body.split('')]) {
        const { inspector, discovered } = headDiscoveries(setting, request, response);
        const passed = inspector && passChunks(inspector, chunks);
        assert.equal(passed?.out ?? body, body, 'the client gets the body as it is');
        const found = [...discovered, ...(passed?.discovered ?? [])];
        assert.deepEqual(found.map(nameOf), reveals);
        if (passed && passed.discovered.length > 0)
          assert.ok(
            !passed.early.includes(passed.discovered[0]?.id ?? ''),
            'held until it is bound',
          );
      }
    });
}

const nameOf = ({ id, protocol }: { id: string; protocol: Protocol }): string =>
  `${protocol.name} ${id}`;

export function headDiscoveries(
  setting: string,
  request: RequestHead,
  response: ResponseHead,
): HeadDiscoveries {
  const protocols = protocolsOf(setting);
  const ids = createRequestIdReader(protocols, { hints: true })(request);
  return createDiscoverer(protocols, {
    ...{ hints: true, self: machine('me'), clock: createTestClock() },
    createId: () => 'token',
  }).inspectHead(request, ids, response);
}

interface PassedChunks {
  readonly out: string;
  /** What went out before the ids were discovered. */
  readonly early: string;
  readonly discovered: readonly { readonly id: string; readonly protocol: Protocol }[];
}

function passChunks(inspector: BodyInspector, chunks: readonly string[]): PassedChunks {
  let [out, early] = ['', ''];
  let discovered: PassedChunks['discovered'] = [];
  const take = (step: ReturnType<BodyInspector['end']>): void => {
    if (step.discovered.length > 0)
      [early, discovered] = [out, [...discovered, ...step.discovered]];
    out += Buffer.from(step.out ?? []).toString('latin1');
  };
  for (const chunk of chunks) {
    const bytes = Buffer.from(chunk, 'latin1');
    const step = inspector.push(bytes);
    take({ ...step, out: step.out && Uint8Array.from(step.out) });
    // The engine may reuse the memory of a chunk after it was handled.
    bytes.fill(0);
  }
  take(inspector.end());
  return { out, early, discovered };
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import { createCompressedInspector } from '../../src/protocols/compressed-inspector.ts';
import { SseEndpointInspector } from '../../src/protocols/sse-endpoint-discovery.ts';
import { get, protocolsOf } from './heads.ts';

const STREAM = ': hi\n\nevent: endpoint\ndata: /m?sessionId=abc\n\nevent: message\ndata: 1\n\n';

function open(coding: string, onEndpoint?: () => void): BodyInspector {
  const [, , mcpSse = assert.fail()] = protocolsOf('mcp,mcp-sse');
  const plain = new SseEndpointInspector({
    ...{ protocol: mcpSse, names: ['sessionId'], hint: undefined, createId: undefined },
    ...{ request: get('/sse'), ...(onEndpoint && { onEndpoint }) },
  });
  return createCompressedInspector(coding, plain) ?? assert.fail();
}

interface Passed {
  readonly out: Buffer;
  readonly id: string | undefined;
  readonly isDone: boolean;
}

function pass(inspector: BodyInspector, chunks: readonly Buffer[]): Passed {
  const out: Uint8Array[] = [];
  let id: string | undefined;
  let isDone = false;
  for (const chunk of chunks) {
    const pushed = inspector.push(Buffer.from(chunk));
    out.push(pushed.out ?? new Uint8Array(0));
    id ??= pushed.discovered[0]?.id;
    isDone = pushed.isDone;
  }
  out.push(inspector.end().out ?? new Uint8Array(0));
  return { out: Buffer.concat(out), id, isDone };
}

const inPieces = (bytes: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  );

for (const [coding, compress] of [
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['deflate', deflateSync],
  ['br', brotliCompressSync],
] as const) {
  for (const size of [1_000, 20]) {
    test(`the id in a stream of ${coding} is found in pieces of ${size} bytes, which pass as they came`, () => {
      const bytes = compress(STREAM);
      const { out, id, isDone } = pass(open(coding), inPieces(bytes, size));
      assert.equal(id, 'abc');
      assert.deepEqual(out, bytes);
      assert.ok(isDone);
    });
  }
}

test('an endpoint without a known id is reported, too', () => {
  let count = 0;
  const inspector = open('gzip', () => (count += 1));
  const { id } = pass(inspector, [gzipSync('event: endpoint\ndata: /m/abc\n\n')]);
  assert.equal(id, undefined);
  assert.equal(count, 1);
});

for (const [claim, bytes] of [
  ['malformed bytes', Buffer.from('event: endpoint\ndata: /m?sessionId=abc\n\n')],
  ['a few bytes that become many', gzipSync(`${'a'.repeat(10_000_000)}\n\n${STREAM}`)],
  ['no bytes', Buffer.alloc(0)],
] as const) {
  test(`${claim} pass as they came, and reveal nothing`, () => {
    const { out, id } = pass(open('gzip'), inPieces(bytes, 1_000));
    assert.equal(id, undefined);
    assert.deepEqual(out, bytes);
  });
}

test('after sixteen chunks the rest passes as the very objects', () => {
  const inspector = open('gzip');
  const pieces = inPieces(gzipSync(STREAM), 1);
  for (const piece of pieces.slice(0, 16)) inspector.push(piece);
  const next = pieces[16] ?? assert.fail();
  const { out, isDone } = inspector.push(next);
  assert.equal(out, next);
  assert.ok(isDone);
});

test('an unknown coding has no inspector', () => {
  assert.equal(createCompressedInspector('toString', open('gzip')), undefined);
});

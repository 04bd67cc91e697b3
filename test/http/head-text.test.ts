import { RequestParser } from '../../src/http/request-parser.ts';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatFields } from '../../src/http/head-text.ts';
import {
  type ParsedRequestHead,
  formatRequest,
  type RequestChanges,
} from '../../src/http/request-head.ts';

function headOf(text: string): ParsedRequestHead {
  const limits = { headBytes: 10_000, fields: 100, targetBytes: 1_000 };
  const parser = new RequestParser({ ...limits, protectedNames: new Set() });
  const parsed = parser.parse(Buffer.from(text, 'latin1'), 0, text.length);
  assert.ok(parsed && 'head' in parsed);
  return parsed.head;
}

function sent(text: string, changes: Partial<RequestChanges> = {}): string {
  const head = headOf(text);
  const { target, rawHeaders } = head;
  return formatRequest(head, { target, rawHeaders, added: '', asksForUpgrade: false, ...changes });
}

describe('the head of a forwarded request', () => {
  test('is the received one, byte for byte, without changes', () => {
    const text =
      'POST /a?b=%7E\xe9 HTTP/1.1\r\nhost: a\r\nX-b:caf\xe9\r\nx-B: \t1 \r\nContent-Length: 5\r\n\r\n';
    assert.equal(sent(text), text);
  });

  const rows: readonly (readonly [
    name: string,
    received: string,
    expected: string,
    changes?: Partial<RequestChanges>,
  ])[] = [
    ['is always HTTP/1.1', 'GET / HTTP/1.0\r\nX: y\r\n\r\n', 'GET / HTTP/1.1\r\nX: y\r\n\r\n'],
    [
      'has its target in origin-form',
      'GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n',
      'GET /b?c HTTP/1.1\r\nHost: a\r\n\r\n',
    ],
    [
      'has no hop-by-hop lines, wherever they were',
      'GET / HTTP/1.1\r\nConnection: keep-alive, X-A\r\nHost: a\r\nTE: trailers\r\nKeep-Alive: 5\r\nx-a: 1\r\nX-B: 2\r\nUpgrade: h2c\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\n\r\n',
    ],
    [
      'has its own Transfer-Encoding line for a chunked body',
      'POST / HTTP/1.1\r\ntransfer-ENCODING: Chunked\r\nHost: a\r\nX: y\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n',
    ],
    [
      'has no Expect, because the sidecar sends the 100 itself',
      'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n',
    ],
    [
      'requests the protocol that the client requests',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-A\r\nUpgrade: h2c, WebSocket\r\nX-A: 1\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n',
      { asksForUpgrade: true },
    ],
    [
      'requests no protocol that the client does not request',
      'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
      { asksForUpgrade: true },
    ],
    [
      'has added lines after the received ones',
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nTransfer-Encoding: chunked\r\n\r\n',
      { added: 'Via: 1.1 x\r\n' },
    ],
    [
      'has the changed target and fields',
      'GET /a HTTP/1.1\r\nHost: a\r\nX:  y\r\n\r\n',
      'GET /b HTTP/1.1\r\nHost: b\r\nZ: \r\n\r\n',
      { target: '/b', rawHeaders: ['Host', 'b', 'Z', ''] },
    ],
  ];
  for (const [name, received, expected, changes] of rows) {
    test(name, () => assert.equal(sent(received, changes), expected));
  }
});

test('fields are formatted one per line, and half a pair is ignored', () => {
  assert.equal(formatFields([]), '');
  assert.equal(formatFields(['A', '1', 'b', '', 'C']), 'A: 1\r\nb: \r\n');
});

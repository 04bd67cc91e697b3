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

describe('the head of a request that goes out', () => {
  test('is the one that came, byte for byte, where nothing is to be changed', () => {
    const text =
      'POST /a?b=%7E\xe9 HTTP/1.1\r\nhost: a\r\nX-b:caf\xe9\r\nx-B: \t1 \r\nContent-Length: 5\r\n\r\n';
    assert.equal(sent(text), text);
  });

  const rows: readonly (readonly [
    name: string,
    came: string,
    goes: string,
    changes?: Partial<RequestChanges>,
  ])[] = [
    [
      'is always one of HTTP/1.1',
      'GET / HTTP/1.0\r\nX: y\r\n\r\n',
      'GET / HTTP/1.1\r\nX: y\r\n\r\n',
    ],
    [
      'has its target in origin-form',
      'GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n',
      'GET /b?c HTTP/1.1\r\nHost: a\r\n\r\n',
    ],
    [
      'lacks the lines of the connection, wherever they stand',
      'GET / HTTP/1.1\r\nConnection: keep-alive, X-A\r\nHost: a\r\nTE: trailers\r\nKeep-Alive: 5\r\nx-a: 1\r\nX-B: 2\r\nUpgrade: h2c\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\n\r\n',
    ],
    [
      'says itself that its body comes in chunks',
      'POST / HTTP/1.1\r\ntransfer-ENCODING: Chunked\r\nHost: a\r\nX: y\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n',
    ],
    [
      'asks for no 100, which the sidecar sends itself',
      'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n',
    ],
    [
      'asks for the protocol that the client asks for',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-A\r\nUpgrade: h2c, WebSocket\r\nX-A: 1\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n',
      { asksForUpgrade: true },
    ],
    [
      'asks for no protocol that nobody asks for',
      'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
      { asksForUpgrade: true },
    ],
    [
      'has added lines behind those that came',
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nTransfer-Encoding: chunked\r\n\r\n',
      { added: 'Via: 1.1 x\r\n' },
    ],
    [
      'has another target and other fields where they were changed',
      'GET /a HTTP/1.1\r\nHost: a\r\nX:  y\r\n\r\n',
      'GET /b HTTP/1.1\r\nHost: b\r\nZ: \r\n\r\n',
      { target: '/b', rawHeaders: ['Host', 'b', 'Z', ''] },
    ],
  ];
  for (const [name, came, goes, changes] of rows) {
    test(name, () => assert.equal(sent(came, changes), goes));
  }
});

test('fields are formatted one a line, and half a pair is none', () => {
  assert.equal(formatFields([]), '');
  assert.equal(formatFields(['A', '1', 'b', '', 'C']), 'A: 1\r\nb: \r\n');
});

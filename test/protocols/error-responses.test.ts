import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WHYS } from '../../src/routing/decision.ts';
import { errorResponseFor, unknownSessionStatus } from '../../src/protocols/error-responses.ts';
import type { Protocol } from '../../src/protocols/protocol.ts';
import { protocolsOf } from './heads.ts';

const PROTOCOLS = protocolsOf(
  'mcp,mcp-sse,rpc,cookie:sid,socket.io,signalr,path:^/(a),query:a,header:a',
);
const byName = (name: string): Protocol | undefined =>
  PROTOCOLS.find((other) => other.name === name);
const [mcp, mcpSse, rpc] = ['mcp', 'mcp-sse', 'rpc'].map(byName);

function headerOf(headers: readonly string[], name: string): string | undefined {
  const at = headers.indexOf(name);
  return at === -1 ? undefined : headers[at + 1];
}

test('an unknown session of MCP gets the error on which its clients start a new session', () => {
  for (const protocol of [mcp, mcpSse]) {
    const { status, headers, body } = errorResponseFor(404, 'owner-gone', protocol);
    assert.equal(status, 404);
    assert.equal(headerOf(headers, 'content-type'), 'application/json');
    assert.deepEqual(JSON.parse(body), {
      jsonrpc: '2.0',
      error: { code: -32001, message: 'Session not found' },
      id: null,
    });
  }
});

test('an unknown session of MCP gets an error that names its request', () => {
  for (const id of [7, 'seven', '"\n']) {
    const { bodyFor } = errorResponseFor(404, 'owner-gone', mcp);
    assert.deepEqual(JSON.parse(bodyFor?.(id) ?? ''), {
      jsonrpc: '2.0',
      error: { code: -32001, message: 'Session not found' },
      id,
    });
  }
});

test('an unknown task of MCP gets the error of its extension', () => {
  const { status, bodyFor } = errorResponseFor(404, 'owner-gone', byName('mcp-tasks'));
  assert.equal(status, 404);
  assert.deepEqual(JSON.parse(bodyFor?.(70) ?? ''), {
    jsonrpc: '2.0',
    error: { code: -32602, message: 'Failed to retrieve task: Task not found' },
    id: 70,
  });
});

test('an unknown session of Socket.IO gets the error of Engine.IO', () => {
  const { status, headers, body } = errorResponseFor(404, 'owner-gone', byName('socket.io'));
  assert.equal(status, 400);
  assert.equal(headerOf(headers, 'content-type'), 'application/json');
  assert.equal(body, '{"code":1,"message":"Session ID unknown"}');
});

test('the response is the same for a session that never existed, belongs to another Machine, or has ended', () => {
  for (const protocol of [undefined, ...PROTOCOLS]) {
    const [one, ...others] = WHYS.map((why) => {
      const { bodyFor, ...errorResponse } = errorResponseFor(404, why, protocol);
      return JSON.stringify([errorResponse, bodyFor?.(1)]);
    });
    for (const other of others) assert.equal(other, one);
  }
});

test('an app of Socket.IO responds 400 to an unknown session, all others 404; a 404 for a cookie is a page', () => {
  for (const protocol of PROTOCOLS) {
    const expected = protocol.name === 'socket.io' ? 400 : 404;
    const isCookie = protocol.name === 'cookie:sid';
    assert.equal(unknownSessionStatus(protocol), isCookie ? undefined : expected);
  }
});

test('an unknown session of other protocols is a problem document', () => {
  for (const protocol of [
    ...['rpc', 'cookie:sid', 'signalr', 'path:^/(a)'].map(byName),
    undefined,
  ]) {
    const { headers, body } = errorResponseFor(404, 'unknown-session', protocol);
    assert.equal(headerOf(headers, 'content-type'), 'application/problem+json');
    assert.deepEqual(JSON.parse(body), {
      type: 'about:blank',
      title: 'Session not found',
      status: 404,
    });
  }
});

test('a temporary error states when to retry', () => {
  for (const status of [502, 503] as const) {
    assert.equal(
      headerOf(errorResponseFor(status, 'owner-unreachable', mcp).headers, 'retry-after'),
      '1',
    );
  }
  for (const status of [400, 404, 421, 504] as const) {
    assert.equal(
      headerOf(errorResponseFor(status, 'moved', mcp).headers, 'retry-after'),
      undefined,
    );
  }
});

test('a bad request gets a short text', () => {
  for (const why of ['conflicting-ids', 'malformed-request'] as const) {
    const { headers, body } = errorResponseFor(400, why, undefined);
    assert.equal(headerOf(headers, 'content-type'), 'text/plain; charset=utf-8');
    assert.match(body, /^The request [a-z ]{10,50}\.\n$/);
  }
});

test('a cache keeps no error response, and none shows an internal reason', () => {
  for (const status of [400, 404, 421, 502, 503, 504] as const) {
    for (const why of WHYS) {
      const { headers, body } = errorResponseFor(status, why, rpc);
      assert.equal(headerOf(headers, 'cache-control'), 'no-store');
      assert.ok(!body.includes(why));
    }
  }
});

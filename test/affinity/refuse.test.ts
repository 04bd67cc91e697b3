import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WHYS } from '../../src/affinity/decide.ts';
import { refusalFor } from '../../src/affinity/refuse.ts';
import { protocolsOf } from './heads.ts';

const [mcp, mcpSse, rpc, cookie] = protocolsOf('mcp,mcp-sse,rpc,cookie:sid');

function headerOf(headers: readonly string[], name: string): string | undefined {
  const at = headers.indexOf(name);
  return at === -1 ? undefined : headers[at + 1];
}

test('an unknown session of MCP is what its clients take for the sign to start anew', () => {
  for (const protocol of [mcp, mcpSse]) {
    const { status, headers, body } = refusalFor(404, 'owner-gone', protocol);
    assert.equal(status, 404);
    assert.equal(headerOf(headers, 'content-type'), 'application/json');
    assert.deepEqual(JSON.parse(body), {
      jsonrpc: '2.0',
      error: { code: -32001, message: 'Session not found' },
      id: null,
    });
  }
});

test('an unknown session of other protocols is a problem document', () => {
  for (const protocol of [rpc, cookie, undefined]) {
    const { headers, body } = refusalFor(404, 'unknown-session', protocol);
    assert.equal(headerOf(headers, 'content-type'), 'application/problem+json');
    assert.deepEqual(JSON.parse(body), {
      type: 'about:blank',
      title: 'Session not found',
      status: 404,
    });
  }
});

test('what passes is worth another try', () => {
  for (const status of [502, 503] as const) {
    assert.equal(
      headerOf(refusalFor(status, 'owner-unreachable', mcp).headers, 'retry-after'),
      '1',
    );
  }
  for (const status of [400, 404, 421, 504] as const) {
    assert.equal(headerOf(refusalFor(status, 'moved', mcp).headers, 'retry-after'), undefined);
  }
});

test('a bad request gets a short text', () => {
  for (const why of ['conflicting-ids', 'malformed-request'] as const) {
    const { headers, body } = refusalFor(400, why, undefined);
    assert.equal(headerOf(headers, 'content-type'), 'text/plain; charset=utf-8');
    assert.match(body, /^The request [a-z ]{10,50}\.\n$/);
  }
});

test('no refusal is kept by a cache or shows a reason from inside', () => {
  for (const status of [400, 404, 421, 502, 503, 504] as const) {
    for (const why of WHYS) {
      const { headers, body } = refusalFor(status, why, rpc);
      assert.equal(headerOf(headers, 'cache-control'), 'no-store');
      assert.ok(!body.includes(why));
    }
  }
});

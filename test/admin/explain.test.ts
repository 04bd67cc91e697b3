/** `/explain` of the admin listener: which requests it accepts, and that it sends none of them. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { RequestToExplain } from '../../src/admin/explain.ts';
import type { MemoryLog } from '../support/log.ts';
import { openAdmin, TOKEN } from './support.ts';

const SECRET = 'a-session-id';

interface Opened {
  readonly explained: RequestToExplain[];
  readonly log: MemoryLog;
  readonly send: (target: string, init?: RequestInit) => Promise<Response>;
}

async function open(t: TestContext, token = TOKEN): Promise<Opened> {
  const explained: RequestToExplain[] = [];
  const { url, log } = await openAdmin(t, {
    explain: (request) => {
      explained.push(request);
      return Promise.resolve({ explained: true });
    },
  });
  const headers = { authorization: `Bearer ${token}` };
  return { explained, log, send: (target, init = {}) => fetch(url + target, { ...init, headers }) };
}

const post = (body: unknown): RequestInit => ({
  method: 'POST',
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

// prettier-ignore
const ACCEPTED: readonly { readonly claim: string; readonly target: string; readonly init?: RequestInit; readonly expected: RequestToExplain }[] = [
  { claim: 'a body', target: '/explain', init: post({ method: 'POST', path: '/mcp?a=b', headers: { 'Mcp-Session-Id': SECRET }, from: 'peer' }), expected: { from: 'peer', method: 'POST', target: '/mcp?a=b', rawHeaders: ['Mcp-Session-Id', SECRET] } },
  { claim: 'the body of a request', target: '/explain', init: post({ path: '/', body: SECRET }), expected: { from: 'edge', method: 'GET', target: '/', rawHeaders: [], body: SECRET } },
  { claim: 'a body with only a path', target: '/explain', init: post({ path: '/' }), expected: { from: 'edge', method: 'GET', target: '/', rawHeaders: [] } },
  { claim: 'a body with a repeated header', target: '/explain', init: post({ path: '/', headers: { a: ['1', '2'] } }), expected: { from: 'edge', method: 'GET', target: '/', rawHeaders: ['a', '1', 'a', '2'] } },
  { claim: 'a query whose path has an unescaped query', target: '/explain?path=/mcp?session_id=1', expected: { from: 'edge', method: 'GET', target: '/mcp?session_id=1', rawHeaders: [] } },
  { claim: 'a query', target: `/explain?method=DELETE&path=/mcp%3Fa=b&from=edge&header=mcp-session-id:%20${SECRET}&header=x:y:z`, expected: { from: 'edge', method: 'DELETE', target: '/mcp?a=b', rawHeaders: ['mcp-session-id', SECRET, 'x', 'y:z'] } },
];
for (const { claim, target, init, expected } of ACCEPTED) {
  test(`/explain accepts ${claim}`, async (t) => {
    const { send, explained } = await open(t);
    const response = await send(target, init);
    assert.deepEqual([response.status, await response.json()], [200, { explained: true }]);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.deepEqual(explained, [expected]);
  });
}

// prettier-ignore
const REJECTED: readonly { readonly claim: string; readonly status: number; readonly target?: string; readonly init?: RequestInit }[] = [
  { claim: 'a query without a path', status: 400, target: `/explain?header=x:${SECRET}` },
  { claim: 'a query with an unknown parameter', status: 400, target: `/explain?path=/&session=${SECRET}` },
  { claim: 'a query that gives a path twice', status: 400, target: `/explain?path=/&path=/${SECRET}` },
  { claim: 'a query with a header without a colon', status: 400, target: `/explain?path=/&header=${SECRET}` },
  { claim: 'a query with a line break in a header', status: 400, target: `/explain?path=/&header=a:${SECRET}%0d%0ab:c` },
  { claim: 'a query with a space in its path', status: 400, target: `/explain?path=/%20${SECRET}` },
  { claim: 'a query with an invalid header name', status: 400, target: `/explain?path=/&header=a%20b:${SECRET}` },
  { claim: 'an unknown sender', status: 400, target: `/explain?path=/&from=${SECRET}` },
  { claim: 'a body that is not JSON', status: 400, init: post(`{"path": ${SECRET}`) },
  { claim: 'a body that is an array', status: 400, init: post([SECRET]) },
  { claim: 'a body with an unknown member', status: 400, init: post({ path: '/', cookie: SECRET }) },
  { claim: 'a body with a header value that is an object', status: 400, init: post({ path: '/', headers: { a: { b: SECRET } } }) },
  { claim: 'a body with headers that are not an object', status: 400, init: post({ path: '/', headers: SECRET }) },
  { claim: 'a body that is too large', status: 413, init: post({ path: '/', headers: { a: SECRET.repeat(20_000) } }) },
  { claim: 'the body of a request that is no text', status: 400, init: post({ path: '/', body: { a: SECRET } }) },
  { claim: 'another method', status: 405, init: { method: 'DELETE' } },
];
for (const { claim, status, target = '/explain', init } of REJECTED) {
  test(`/explain rejects ${claim}, and neither repeats nor logs it`, async (t) => {
    const { send, explained, log } = await open(t);
    const response = await send(target, init);
    assert.equal(response.status, status);
    const text = await response.text();
    assert.match(text, /^\{"error":"[^"]/);
    assert.doesNotMatch(text + JSON.stringify(log.lines), new RegExp(SECRET));
    assert.deepEqual(explained, []);
  });
}

test('/explain with another token is 401', async (t) => {
  const { send, explained, log } = await open(t, 'another-token-altogether');
  for (const response of [
    await send(`/explain?path=/${SECRET}`),
    await send('/explain', post({})),
  ]) {
    assert.equal(response.status, 401);
  }
  assert.deepEqual(explained, []);
  assert.doesNotMatch(JSON.stringify(log.lines), new RegExp(SECRET));
});

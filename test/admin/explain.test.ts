/** `/explain` of the admin listener: what is asked reaches the explaining part, and nothing comes back of it. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { startAdmin } from '../../src/admin/admin.ts';
import { createExplainRoutes, type ExplainedRequest } from '../../src/admin/explain.ts';
import { createTestClock } from '../support/clock.ts';
import { createKeptLog, type KeptLog } from '../support/log.ts';

const TOKEN = 'a-token-of-an-operator';
const SECRET = 'a-session-id';

interface Opened {
  readonly asked: ExplainedRequest[];
  readonly log: KeptLog;
  readonly ask: (target: string, init?: RequestInit) => Promise<Response>;
}

async function open(t: TestContext, token = TOKEN): Promise<Opened> {
  const log = createKeptLog();
  const { logger } = log;
  const asked: ExplainedRequest[] = [];
  const explain = (request: ExplainedRequest): Promise<object> => {
    asked.push(request);
    return Promise.resolve({ explained: true });
  };
  const admin = await startAdmin({
    host: '127.0.0.1',
    port: 0,
    logger,
    readiness: () => ({ ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } }),
    metrics: { render: () => Promise.resolve(''), contentType: 'text/plain' },
    explain: createExplainRoutes({ token: TOKEN, clock: createTestClock(), logger, explain }),
  });
  t.after(() => admin.stop());
  const headers = { authorization: `Bearer ${token}` };
  const ask: Opened['ask'] = (target, init = {}) =>
    fetch(`http://127.0.0.1:${admin.port}${target}`, { ...init, headers });
  return { asked, log, ask };
}

const post = (body: unknown): RequestInit => ({
  method: 'POST',
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

// prettier-ignore
const READ: readonly { readonly claim: string; readonly target: string; readonly init?: RequestInit; readonly asked: ExplainedRequest }[] = [
  { claim: 'a body', target: '/explain', init: post({ method: 'POST', path: '/mcp?a=b', headers: { 'Mcp-Session-Id': SECRET }, from: 'peer' }), asked: { from: 'peer', method: 'POST', target: '/mcp?a=b', rawHeaders: ['Mcp-Session-Id', SECRET] } },
  { claim: 'a body that leaves out what it can', target: '/explain', init: post({ path: '/' }), asked: { from: 'edge', method: 'GET', target: '/', rawHeaders: [] } },
  { claim: 'a body with a header that comes twice', target: '/explain', init: post({ path: '/', headers: { a: ['1', '2'] } }), asked: { from: 'edge', method: 'GET', target: '/', rawHeaders: ['a', '1', 'a', '2'] } },
  { claim: 'a query whose path has a query as it is', target: '/explain?path=/mcp?session_id=1', asked: { from: 'edge', method: 'GET', target: '/mcp?session_id=1', rawHeaders: [] } },
  { claim: 'a query', target: `/explain?method=DELETE&path=/mcp%3Fa=b&from=edge&header=mcp-session-id:%20${SECRET}&header=x:y:z`, asked: { from: 'edge', method: 'DELETE', target: '/mcp?a=b', rawHeaders: ['mcp-session-id', SECRET, 'x', 'y:z'] } },
];
for (const { claim, target, init, asked: expected } of READ) {
  test(`is asked by ${claim}`, async (t) => {
    const { ask, asked } = await open(t);
    const answer = await ask(target, init);
    assert.deepEqual([answer.status, await answer.json()], [200, { explained: true }]);
    assert.equal(answer.headers.get('cache-control'), 'no-store');
    assert.deepEqual(asked, [expected]);
  });
}

// prettier-ignore
const REFUSED: readonly { readonly claim: string; readonly status: number; readonly target?: string; readonly init?: RequestInit }[] = [
  { claim: 'a query without a path', status: 400, target: `/explain?header=x:${SECRET}` },
  { claim: 'a query with a word that is not known', status: 400, target: `/explain?path=/&session=${SECRET}` },
  { claim: 'a query that gives a path twice', status: 400, target: `/explain?path=/&path=/${SECRET}` },
  { claim: 'a query with half a header', status: 400, target: `/explain?path=/&header=${SECRET}` },
  { claim: 'a query with a line break in a header', status: 400, target: `/explain?path=/&header=a:${SECRET}%0d%0ab:c` },
  { claim: 'a query with a space in its path', status: 400, target: `/explain?path=/%20${SECRET}` },
  { claim: 'a query with a name that is no header', status: 400, target: `/explain?path=/&header=a%20b:${SECRET}` },
  { claim: 'an unknown sender', status: 400, target: `/explain?path=/&from=${SECRET}` },
  { claim: 'a body that is no JSON', status: 400, init: post(`{"path": ${SECRET}`) },
  { claim: 'a body that is a list', status: 400, init: post([SECRET]) },
  { claim: 'a body with a word that is not known', status: 400, init: post({ path: '/', cookie: SECRET }) },
  { claim: 'a body with a header that is no text', status: 400, init: post({ path: '/', headers: { a: { b: SECRET } } }) },
  { claim: 'a body with headers that are no object', status: 400, init: post({ path: '/', headers: SECRET }) },
  { claim: 'a body that is too large', status: 413, init: post({ path: '/', headers: { a: SECRET.repeat(20_000) } }) },
  { claim: 'another method', status: 405, init: { method: 'DELETE' } },
];
for (const { claim, status, target = '/explain', init } of REFUSED) {
  test(`${claim} is refused, and neither repeated nor logged`, async (t) => {
    const { ask, asked, log } = await open(t);
    const answer = await ask(target, init);
    assert.equal(answer.status, status);
    const text = await answer.text();
    assert.match(text, /^\{"error":"[^"]/);
    assert.doesNotMatch(text + JSON.stringify(log.lines), new RegExp(SECRET));
    assert.deepEqual(asked, []);
  });
}

test('nothing is explained to one who brings another token', async (t) => {
  const { ask, asked, log } = await open(t, 'another-token-altogether');
  for (const answer of [await ask(`/explain?path=/${SECRET}`), await ask('/explain', post({}))]) {
    assert.equal(answer.status, 401);
  }
  assert.deepEqual(asked, []);
  assert.doesNotMatch(JSON.stringify(log.lines), new RegExp(SECRET));
});

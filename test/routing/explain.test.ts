/** A request explained by a whole sidecar, over its admin port, with real peers. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import type { Explanation } from '../../src/routing/explain.ts';
import type { Step } from '../../src/routing/trace.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { keyOf } from '../support/ids.ts';
import { serveApp } from '../support/sidecar.ts';

const TOKEN = 'a-token-of-an-operator';
const KEY = keyOf('abc');

interface ExplainedRequest {
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Explaining {
  readonly fleet: TestFleet;
  readonly m1: TestMachine;
  readonly m2: TestMachine;
  /** Requests that m2 has decided. */
  readonly decided: string[];
  /** Requests that an app has received. */
  readonly served: string[];
  readonly explain: (request: ExplainedRequest) => Promise<Explanation>;
}

/** `abc` is a session of m1 that m2 does not know; m2 explains. */
async function open(t: TestContext, env: Environment = {}): Promise<Explaining> {
  const fleet = await openFleet(t, 'm1', 'm2', 'm3');
  const served: string[] = [];
  const app = await serveApp(t, (req, res) => {
    served.push(req.url ?? '');
    res.writeHead(200, { 'mcp-session-id': 'abc' }).end();
  });
  const decided: string[] = [];
  const m1 = await fleet.start('m1', app);
  await fetch(`${m1.url}/open`, { method: 'POST' });
  served.length = 0;
  const metrics = { ...nullMetrics, requestDecided: (kind: string) => void decided.push(kind) };
  const m2 = await fleet.start('m2', app, { ADMIN_TOKEN: TOKEN, ...env }, { metrics });
  // Known once m1 responds: the operator deletes it.
  await until(async () => (await m2.rowCount()) === 1);
  await fetch(`http://127.0.0.1:${m2.sidecar.ports.admin}/sessions/${keyOf('abc')}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  const explain = async ({
    path = '/mcp',
    headers = {},
  }: ExplainedRequest): Promise<Explanation> => {
    const response = await fetch(`http://127.0.0.1:${m2.sidecar.ports.admin}/explain`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify({ method: 'POST', path, headers }),
    });
    assert.equal(response.status, 200);
    const text = await response.text();
    assert.doesNotMatch(text, /abc/);
    return JSON.parse(text) as Explanation;
  };
  return { fleet, m1, m2, decided, served, explain };
}

function named<Name extends Step['step']>(
  { steps }: Explanation,
  name: Name,
): Extract<Step, { readonly step: Name }>[] {
  return steps.filter((step) => step.step === name) as Extract<Step, { readonly step: Name }>[];
}

test('a session that a peer owns is found there, and no binding is written', async (t) => {
  const { m2, decided, served, explain } = await open(t);
  const explained = await explain({ headers: { 'mcp-session-id': 'abc' } });
  assert.deepEqual(named(explained, 'session'), [
    {
      step: 'session',
      found: 'id',
      key: KEY,
      protocol: 'mcp',
      in: 'header',
      name: 'mcp-session-id',
    },
  ]);
  assert.deepEqual(named(explained, 'store'), [{ step: 'store', key: KEY, result: 'absent' }]);
  const [peers] = named(explained, 'peers');
  assert.deepEqual([peers?.each.m1, peers?.result.kind], ['mine', 'owner']);
  assert.deepEqual(explained.response, {
    by: 'sidecar',
    status: 307,
    headers: { 'fly-replay': 'instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self' },
  });
  assert.deepEqual([decided, served, await m2.rowCount()], [[], [], 0]);
});

test("a hint, the directory's state of its Machine, and the reason are shown", async (t) => {
  const { explain } = await open(t);
  const explained = await explain({ path: '/messages?session_id=abc~m1' });
  const [session] = named(explained, 'session');
  assert.ok(session?.found === 'id');
  assert.deepEqual([session.protocol, session.in, session.hint], ['mcp-sse', 'query', 'm1']);
  assert.deepEqual(named(explained, 'directory'), [
    { step: 'directory', machine: 'm1', liveness: 'running' },
  ]);
  assert.equal(named(explained, 'decision')[0]?.decision.why, 'not-owner');
});

test('a body that is too large to replay would be sent to the peer', async (t) => {
  const { explain } = await open(t);
  const headers = { 'mcp-session-id': 'abc~m1', 'transfer-encoding': 'chunked' };
  assert.deepEqual((await explain({ headers })).response, { by: 'peer', machine: 'm1' });
});

test('a request that the app would receive is not sent to it', async (t) => {
  const { served, explain } = await open(t);
  assert.deepEqual((await explain({})).response, { by: 'app' });
  assert.deepEqual(served, []);
});

test('a malformed or conflicting request would be rejected', async (t) => {
  const { explain } = await open(t, { SESSION_PROTOCOLS: 'mcp,rpc' });
  const malformed = await explain({ headers: { 'content-length': '1', 'transfer-encoding': 'x' } });
  assert.equal(named(malformed, 'decision')[0]?.decision.why, 'malformed-request');
  const conflicting = await explain({ path: '/?session_id=abc&session_id=abd' });
  assert.deepEqual(named(conflicting, 'session'), [{ step: 'session', found: 'conflict' }]);
  assert.ok(conflicting.response.by === 'sidecar' && conflicting.response.status === 400);
});

test('an owner that recently did not respond is shown as unresponsive', async (t) => {
  const { fleet, m1, m2, explain } = await open(t);
  await m1.sidecar.stop();
  fleet.lines.get('m1')?.leadTo(undefined);
  const body = new Blob(['x']).stream();
  const upload = { method: 'POST', duplex: 'half', body } as const;
  const headers = { 'mcp-session-id': 'abc~m1' };
  assert.equal((await fetch(m2.url, { ...upload, headers })).status, 503);
  await until(async () => {
    const explained = await explain({ headers });
    return named(explained, 'directory').at(-1)?.liveness === 'unresponsive';
  });
  const { response } = await explain({ headers });
  assert.ok(response.by === 'sidecar');
  assert.equal(
    response.headers['fly-replay'],
    'instance=m1;state=fly-affinity;timeout=1s;fallback=prefer_self',
  );
});

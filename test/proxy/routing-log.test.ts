/** With LOG_LEVEL=debug the log says how each request was routed, and the requests go where they always go. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { nullLogger } from '../../src/observability/log.ts';
import { createRoutingLog } from '../../src/proxy/request-log.ts';
import { until } from '../fleet/support.ts';
import { openFleet } from '../support/fleet.ts';
import { keyOf } from '../support/ids.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';
import { serveApp } from '../support/sidecar.ts';

interface RoutingLine {
  readonly requestId: string;
  readonly step: string;
  readonly key?: string;
  readonly result?: unknown;
}

function routingLines({ lines }: MemoryLog): RoutingLine[] {
  const routing = lines.filter(({ message }) => message === 'routing step');
  assert.ok(routing.every(({ level }) => level === 'debug'));
  return routing.map(({ fields }) => fields as RoutingLine);
}

/** Two Machines whose apps mint `abc`, and send it back. */
async function openTwo(t: TestContext): Promise<{ log: MemoryLog; urls: [string, string] }> {
  const fleet = await openFleet(t, 'm1', 'm2');
  const app = await serveApp(t, (_req, res) => {
    res.writeHead(200, { 'mcp-session-id': 'abc' }).end();
  });
  const log = createMemoryLog(undefined, 'debug');
  const m1 = await fleet.start('m1', app);
  const m2 = await fleet.start('m2', app, {}, { logger: log.logger });
  return { log, urls: [m1.url, m2.url] };
}

test('a request of a session that a peer owns: each step, in order, and never its id', async (t) => {
  const { log, urls } = await openTwo(t);
  const [m1, m2] = urls;
  assert.equal((await fetch(`${m1}/open`, { method: 'POST' })).status, 200);
  const headers = { 'mcp-session-id': 'abc', 'fly-request-id': 'request-7' };
  const response = await fetch(`${m2}/mcp`, { method: 'POST', headers });
  assert.equal(response.headers.get('fly-replay')?.startsWith('instance=m1;'), true);
  const lines = routingLines(log).filter(({ requestId }) => requestId === 'request-7');
  const steps = lines.map(({ step }) => step);
  assert.equal(steps[0], 'session');
  assert.equal(steps[1], 'store');
  assert.deepEqual(steps.slice(-4), ['owner', 'facts', 'state', 'decision']);
  assert.equal(lines[0]?.key, keyOf('abc'));
  assert.doesNotMatch(JSON.stringify(lines), /abc"/);
});

test('a logged request is carried out: its new session is bound', async (t) => {
  const { log, urls } = await openTwo(t);
  const [, m2] = urls;
  const open = (): Promise<Response> => fetch(`${m2}/open`, { method: 'POST' });
  assert.equal((await open()).status, 200);
  const headers = { 'mcp-session-id': 'abc', 'fly-request-id': 'request-8' };
  await until(async () => (await fetch(`${m2}/mcp`, { method: 'POST', headers })).status === 200);
  const found = routingLines(log).find(
    ({ requestId, step }) => requestId === 'request-8' && step === 'store',
  );
  assert.equal((found?.result as { readonly machine?: string } | undefined)?.machine, 'm2');
});

test('without debug lines no step is taken down', () => {
  const logger = { ...nullLogger, isLevelEnabled: (level: string) => level !== 'debug' };
  assert.equal(createRoutingLog(logger), undefined);
});

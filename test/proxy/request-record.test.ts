import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test, type TestContext } from 'node:test';
import { nullLogger, type Logger } from '../../src/observability/log.ts';
import { nullMetrics } from '../../src/observability/metrics.ts';
import { parseProtocols } from '../../src/protocols/setting.ts';
import { RequestRecorder } from '../../src/proxy/request-record.ts';
import type { Decision } from '../../src/routing/decision.ts';
import type { Routed } from '../../src/routing/route.ts';
import { parseSessionId } from '../../src/session.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import { openMetrics } from '../support/metrics.ts';
import { serve, startTestSidecar } from '../support/sidecar.ts';

const REQUEST = {
  requestId: 'r1',
  from: 'edge',
  head: { method: 'GET', target: '/', rawHeaders: [] },
  fields: { requestId: 'r1' },
} as const;

function createRecorder(clock: TestClock): RequestRecorder {
  return new RequestRecorder({ clock, logger: nullLogger, metrics: nullMetrics });
}

test('msUntilQuiet() is 0 before the first request', () => {
  assert.equal(createRecorder(createTestClock()).msUntilQuiet(), 0);
});

test('msUntilQuiet() reaches 0 one second after the last request ended', async () => {
  const clock = createTestClock();
  const recorder = createRecorder(clock);
  const quietAfter = async (ms: number): Promise<number> => {
    await clock.advance(ms);
    return recorder.msUntilQuiet();
  };
  const [first, second] = [recorder.begin(), recorder.begin()];
  assert.equal(await quietAfter(5_000), 1_000);
  first.end(REQUEST);
  assert.equal(await quietAfter(5_000), 1_000);
  second.end(REQUEST);
  assert.deepEqual([await quietAfter(400), await quietAfter(599)], [600, 1]);
  assert.deepEqual([await quietAfter(1), await quietAfter(1)], [0, 0]);
});

const LOCAL: Decision = { kind: 'local', why: 'owner', mayClaim: false };
const FORWARD: Decision = { kind: 'forward', to: machineId('m2'), why: 'detour' };
const REPLAY: Decision = {
  ...{ kind: 'replay', to: machineId('m2'), why: 'not-owner' },
  ...{ form: 'resilient', invalidatesCache: false },
};

function routedTo(decision: Decision, hasId = true): Routed {
  const id = parseSessionId('one');
  const [protocol] = parseProtocols('mcp').protocols ?? [];
  assert.ok(id && protocol);
  const found = { kind: 'found', id, hintedId: undefined, hint: undefined, protocol } as const;
  return {
    ...{ decision, ids: hasId ? found : { kind: 'none' }, key: hasId ? keyOf('one') : undefined },
    ...{ owner: undefined, binding: undefined, wholeId: undefined, mayReplay: true },
  };
}

/** Series with a value other than 0, without those of the process. */
async function seriesAfter(
  t: TestContext,
  use: (recorder: RequestRecorder, clock: TestClock) => unknown,
): Promise<readonly string[]> {
  const [clock, metrics] = [createTestClock(), openMetrics(t)];
  await use(new RequestRecorder({ clock, logger: nullLogger, metrics }), clock);
  const lines = (await metrics.render()).split('\n');
  return lines
    .filter((line) => line.startsWith('fly_affinity_') && !line.endsWith(' 0'))
    .map((line) => line.slice('fly_affinity_'.length));
}

const CLIENT_REQUESTS = 'client_requests_total';

for (const [what, decision, from, counted] of [
  ['served here', LOCAL, 'edge', ['client_requests_total{protocol="mcp",status="2xx"} 1']],
  ['forwarded', FORWARD, 'edge', ['client_requests_total{protocol="mcp",status="2xx"} 1']],
  ['forwarded by a peer', LOCAL, 'peer', []],
  ['replayed', REPLAY, 'edge', []],
  ['sent elsewhere', { kind: 'elsewhere', why: 'full' }, 'edge', []],
] as const) {
  test(`of the sidecars that see it, one counts a request as a client's: ${what}`, async (t) => {
    const series = await seriesAfter(t, (recorder) => {
      const record = recorder.begin();
      record.routed = routedTo(decision);
      record.noteStarted(200);
      record.end({ ...REQUEST, from });
    });
    const found = series.filter((line) => line.startsWith(CLIENT_REQUESTS));
    assert.deepEqual(found, counted);
  });
}

test('a request without a session id, or never routed, has the protocol none', async (t) => {
  const series = await seriesAfter(t, (recorder) => {
    const [one, other] = [recorder.begin(), recorder.begin()];
    one.routed = routedTo(LOCAL, false);
    one.noteStarted(404);
    one.end(REQUEST);
    other.noteDisconnected();
    other.end(REQUEST);
  });
  assert.deepEqual(
    series.filter((line) => line.startsWith(CLIENT_REQUESTS)),
    [
      'client_requests_total{protocol="none",status="4xx"} 1',
      'client_requests_total{protocol="none",status="499"} 1',
    ],
  );
});

const REFUSED_SESSIONS = /^(lost|unavailable)_session_requests_total/;

for (const [decision, status, hasId, counted] of [
  [refused(404, 'owner-gone'), 404, true, ['lost_session_requests_total{why="owner-gone"} 1']],
  [refused(404, 'unknown-session'), 404, false, []],
  [LOCAL, 404, true, ['lost_session_requests_total{why="app-restarted"} 1']],
  [
    refused(503, 'peers-inconclusive'),
    503,
    true,
    ['unavailable_session_requests_total{why="peers-inconclusive"} 1'],
  ],
  [FORWARD, 503, true, ['unavailable_session_requests_total{why="detour"} 1']],
  [LOCAL, 503, true, ['unavailable_session_requests_total{why="overloaded"} 1']],
  [
    { ...LOCAL, why: 'placed', isInDoubt: true },
    503,
    true,
    ['unavailable_session_requests_total{why="placed"} 1'],
  ],
  [LOCAL, 502, true, []],
  [refused(421, 'moved'), 421, true, []],
] as const) {
  const what = `${decision.kind} ${decision.why}, ${hasId ? 'with' : 'without'} an id`;
  test(`a ${status} of the sidecar counts ${counted.length} sessions: ${what}`, async (t) => {
    const series = await seriesAfter(t, (recorder) => {
      const record = recorder.begin();
      record.routed = routedTo(decision, hasId);
      record.noteOwnResponse(status);
      record.noteStarted(status);
      record.end(REQUEST);
    });
    assert.deepEqual(
      series.filter((line) => REFUSED_SESSIONS.test(line)),
      counted,
    );
  });
}

function refused(
  status: 404 | 421 | 503,
  why: Decision['why'],
): Decision & { readonly kind: 'refuse' } {
  return { kind: 'refuse', status, why };
}

test('the time to the first byte is observed when it is known, not at the end of a stream', async (t) => {
  const series = await seriesAfter(t, async (recorder, clock) => {
    const record = recorder.begin();
    record.routed = routedTo(LOCAL);
    await clock.advance(1);
    record.noteSent();
    await clock.advance(7);
    record.noteResponse();
    record.noteStarted(200, false);
    await clock.advance(60_000);
  });
  for (const line of [
    'upstream_seconds_sum{upstream="app"} 0.007',
    'upstream_seconds_count{upstream="app"} 1',
    'sidecar_seconds_sum 0.001',
  ])
    assert.ok(series.includes(line), `${line} in ${series.join('\n')}`);
});

/** A logger, and the fields of the request lines that it gets. */
function collectLines(): { readonly logger: Logger; readonly lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const info: Logger['info'] = (fields, message) => {
    if (message === 'request') lines.push({ ...fields });
  };
  return { logger: { ...nullLogger, isLevelEnabled: () => true, info }, lines };
}

for (const [when, statusCode, expected] of [
  ['before a response', 0, { status: 499, reason: undefined }],
  ['in the middle of one', 200, { status: 200, reason: 'the client disconnected before its end' }],
] as const) {
  test(`the line of a request whose client disconnects ${when} has the status ${expected.status}`, () => {
    const { logger, lines } = collectLines();
    const record = new RequestRecorder({
      ...{ clock: createTestClock(), logger, metrics: nullMetrics },
    }).begin();
    record.routed = routedTo(LOCAL);
    if (statusCode > 0) record.noteStarted(statusCode);
    record.noteDisconnected();
    record.end(REQUEST);
    assert.deepEqual(
      lines.map(({ status, reason }) => ({ status, reason })),
      [expected],
    );
  });
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

for (const [traceparent, traceId] of [
  [`00-${TRACE}-${SPAN}-01`, TRACE],
  [`cc-${TRACE}-${SPAN}-00-what-comes-later`, TRACE],
  [`ff-${TRACE}-${SPAN}-01`, undefined],
  [`00-${'0'.repeat(32)}-${SPAN}-01`, undefined],
  [`00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
  [`00-${TRACE.toUpperCase()}-${SPAN}-01`, undefined],
  [`00-${TRACE}x-${SPAN}-01`, undefined],
  ['nonsense', undefined],
] as const) {
  test(`the line of a request with the traceparent ${traceparent} has ${traceId ? 'its trace id' : 'no trace id'}`, async (t) => {
    const { logger, lines } = collectLines();
    const app = createServer((_req, res) => res.end('ok'));
    const sidecar = await startTestSidecar(t, await serve(t, app), {}, { logger });
    const url = `http://127.0.0.1:${sidecar.ports.public}/`;
    await (await fetch(url, { headers: { traceparent } })).text();
    assert.deepEqual(
      lines.map((line) => line.traceId),
      [traceId],
    );
  });
}

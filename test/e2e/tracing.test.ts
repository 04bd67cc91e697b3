/** Traces of real sidecars behind the simulated edge, as a collector receives them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket } from 'ws';
import type { CollectedSpan } from '../support/collector.ts';
import { createMemoryLog } from '../support/log.ts';
import { keyOf } from '../support/ids.ts';
import { SESSION, startTracedFleet, type TracedFleet } from '../support/traced-fleet.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CLIENT_SPAN = '00f067aa0ba902b7';
const CLIENT = { traceparent: `00-${TRACE}-${CLIENT_SPAN}-01`, tracestate: 'vendor=1' };
const IN_SESSION = { 'mcp-session-id': SESSION };
const OTHER_TRACE = 'a'.repeat(32);
const OTHER_SPAN = 'b'.repeat(16);

/** Its only span. */
function only(
  spans: ReadonlyMap<string, readonly CollectedSpan[]>,
  machine: string,
): CollectedSpan {
  const [span, ...others] = spans.get(machine) ?? [];
  assert.ok(span && others.length === 0, `${machine} has ${spans.get(machine)?.length} spans`);
  return span;
}

/** Of unknown length, so that the edge can't replay it. */
function upload(): Pick<RequestInit, 'method' | 'body'> & { duplex: 'half' } {
  return { method: 'POST', body: new Blob(['x']).stream(), duplex: 'half' };
}

describe('a request that is replayed', () => {
  test('is one trace: the client, the sidecar that replays, the owner, its app', async (t) => {
    const fleet = await startTracedFleet(t);
    const response = await fleet.send('m2', { headers: { ...CLIENT, ...IN_SESSION } });
    assert.equal(await response.text(), 'm1');
    const spans = await fleet.stop();
    const [m1, m2] = [only(spans, 'm1'), only(spans, 'm2')];
    assert.deepEqual([m2.traceId, m2.parentId], [TRACE, CLIENT_SPAN]);
    assert.deepEqual([m1.traceId, m1.parentId], [TRACE, m2.spanId]);
    const [seen] = fleet.seen;
    assert.equal(seen?.headers.traceparent, `00-${TRACE}-${m1.spanId}-01`);
    assert.equal(seen.headers.tracestate, 'vendor=1');
    assert.deepEqual(
      [m2.attributes['fly_affinity.decision'], m1.attributes['fly_affinity.decision']],
      ['replay', 'local'],
    );
    assert.equal(m2.attributes['http.response.status_code'], 307);
  });

  test('is one trace of the sidecars if the client has none', async (t) => {
    const fleet = await startTracedFleet(t);
    await (await fleet.send('m2', { headers: IN_SESSION })).text();
    const spans = await fleet.stop();
    const [m1, m2] = [only(spans, 'm1'), only(spans, 'm2')];
    assert.equal(m2.parentId, '');
    assert.deepEqual([m1.traceId, m1.parentId], [m2.traceId, m2.spanId]);
  });

  test('goes to its owner once where only one of the sidecars has traces', async (t) => {
    for (const traced of ['m1', 'm2']) {
      const fleet = await startTracedFleet(t, ['m1', 'm2'], (id) =>
        id === traced ? {} : { OTEL_SDK_DISABLED: 'true' },
      );
      const response = await fleet.send('m2', { headers: { ...CLIENT, ...IN_SESSION } });
      assert.equal(await response.text(), 'm1');
      const span = only(await fleet.stop(), traced);
      assert.deepEqual([span.traceId, span.parentId], [TRACE, CLIENT_SPAN]);
      const ofApp = `00-${TRACE}-${traced === 'm1' ? span.spanId : CLIENT_SPAN}-01`;
      assert.equal(fleet.seen[0]?.headers.traceparent, ofApp);
    }
  });

  test("has no span in a replay for the edge's cache, and is joined by the client's trace", async (t) => {
    const fleet = await startTracedFleet(t, ['m1', 'm2'], { REPLAY_CACHEABLE: 'true' });
    await (await fleet.send('m2', { headers: { ...CLIENT, ...IN_SESSION } })).text();
    const spans = await fleet.stop();
    for (const machine of ['m1', 'm2']) {
      const span = only(spans, machine);
      assert.deepEqual([span.traceId, span.parentId], [TRACE, CLIENT_SPAN]);
    }
  });
});

test('a request that is forwarded is one trace, too', async (t) => {
  const fleet = await startTracedFleet(t);
  const response = await fleet.send('m2', { ...upload(), headers: { ...CLIENT, ...IN_SESSION } });
  assert.equal(await response.text(), 'm1');
  const spans = await fleet.stop();
  const [m1, m2] = [only(spans, 'm1'), only(spans, 'm2')];
  assert.deepEqual([m2.traceId, m2.parentId], [TRACE, CLIENT_SPAN]);
  assert.deepEqual([m1.traceId, m1.parentId], [TRACE, m2.spanId]);
  assert.equal(m2.attributes['fly_affinity.decision'], 'forward');
  assert.equal(fleet.seen[0]?.headers.traceparent, `00-${TRACE}-${m1.spanId}-01`);
  assert.equal(m1.attributes['fly_affinity.request_id'], m2.attributes['fly_affinity.request_id']);
});

test('a span has the attributes of the HTTP conventions, and those of the log line', async (t) => {
  const lines: Record<string, unknown>[] = [];
  const { logger } = createMemoryLog((line) => lines.push({ ...line }));
  const env = {
    ...{ FLY_REGION: 'fra', OTEL_SERVICE_NAME: 'shop-sidecar' },
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=a%20test',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-token=a%2Cb',
  };
  const fleet = await startTracedFleet(t, ['m1'], env, { logger });
  const headers = { ...IN_SESSION, 'user-agent': 'a test' };
  await (await fleet.send('m1', { path: '/call?token=secret-in-query', headers })).text();
  const span = only(await fleet.stop(), 'm1');
  const { host } = new URL(fleet.url);
  assert.deepEqual(span.attributes, {
    'http.request.method': 'GET',
    'url.scheme': 'http',
    'server.address': '127.0.0.1',
    'server.port': Number(host.split(':')[1]),
    'client.address': '127.0.0.1',
    'network.protocol.name': 'http',
    'network.protocol.version': '1.1',
    'user_agent.original': 'a test',
    'url.path': '/call',
    'http.response.status_code': 200,
    'fly_affinity.decision': 'local',
    'fly_affinity.why': 'owner',
    'fly_affinity.session': keyOf('a-secret-session-id'),
    'fly_affinity.protocol': 'mcp',
    'fly_affinity.owner': 'm1',
    'fly_affinity.request_id': lines[0]?.requestId,
  });
  assert.equal(lines[0]?.traceId, span.traceId);
  const { resource } = span;
  assert.deepEqual(
    [span.name, span.kind, span.status, resource['service.name'], resource['cloud.region']],
    ['GET', 2, 0, 'shop-sidecar', 'fra'],
  );
  assert.equal(resource['deployment.environment.name'], 'a test');
  const [request] = fleet.collector.requests;
  assert.deepEqual([request?.url, request?.headers['x-token']], ['/v1/traces', 'a,b']);
  assert.equal(request?.headers['content-type'], 'application/x-protobuf');
});

test('no session id and no query is in what the collector receives', async (t) => {
  const env = { SESSION_PROTOCOLS: 'path:^/rooms/([^/]+),mcp' };
  const fleet = await startTracedFleet(t, ['m1'], env);
  await (await fleet.send('m1', { headers: IN_SESSION })).text();
  await (await fleet.send('m1', { path: '/call?session_id=a-secret-session-id' })).text();
  await (await fleet.send('m1', { path: '/rooms/a-secret-room/x' })).text();
  const spans = (await fleet.stop()).get('m1') ?? [];
  assert.deepEqual(
    spans.map(({ attributes }) => attributes['url.path']),
    [...['/call', '/call', `/rooms/${'*'.repeat('a-secret-room'.length)}/x`]],
  );
  assert.ok(!fleet.collector.bytes().includes('secret'));
});

test('a response of 5xx makes the span an error, one of 4xx does not', async (t) => {
  const fleet = await startTracedFleet(t, ['m1']);
  await (await fleet.send('m1', { path: '/fail' })).text();
  await (await fleet.send('m1', { method: 'PROPFIND' })).text();
  const [failed, other] = (await fleet.stop()).get('m1') ?? [];
  assert.deepEqual([failed?.status, failed?.attributes['error.type']], [2, '500']);
  assert.deepEqual([other?.status, other?.name], [0, 'HTTP']);
  assert.deepEqual(
    [other?.attributes['http.request.method'], other?.attributes['http.request.method_original']],
    ['_OTHER', 'PROPFIND'],
  );
});

for (const [what, source, parent] of [
  ['a span', `fly-affinity.${OTHER_TRACE}-${OTHER_SPAN}-01`, [OTHER_TRACE, OTHER_SPAN]],
  ['no span', 'fly-affinity', [TRACE, CLIENT_SPAN]],
  ['a span of zeros', `fly-affinity.${'0'.repeat(32)}-${OTHER_SPAN}-01`, [TRACE, CLIENT_SPAN]],
  ['more than a span', `fly-affinity.${OTHER_TRACE}-${OTHER_SPAN}-01-x`, [TRACE, CLIENT_SPAN]],
  ['nonsense', 'fly-affinity.<script>', [TRACE, CLIENT_SPAN]],
  ['nothing', 'fly-affinity.', [TRACE, CLIENT_SPAN]],
] as const) {
  test(`a forged state with ${what} behind the mark is a mark, and changes no more than the parent`, async (t) => {
    const fleet = await startTracedFleet(t);
    const headers = {
      ...{ ...CLIENT, ...IN_SESSION },
      'fly-replay-src': `instance=m3;region=ams;t=1;state=${source}`,
    };
    // Straight to the sidecar, as the edge would replace it. The one replay is used up.
    const response = await fetch(`${fleet.machines.get('m2')?.url}/call`, { headers });
    assert.equal(await response.text(), 'm1');
    const spans = await fleet.stop();
    const m2 = only(spans, 'm2');
    assert.equal(m2.attributes['fly_affinity.decision'], 'forward');
    assert.deepEqual([m2.traceId, m2.parentId], parent);
    assert.equal(only(spans, 'm1').parentId, m2.spanId);
  });
}

const TWO = [CLIENT.traceparent, `00-${OTHER_TRACE}-${OTHER_SPAN}-01`];
for (const [what, traceParents] of [
  ['two of them begin', TWO],
  ['a malformed one begins', [`00-${TRACE}-01`]],
  ['none begins', []],
] as const) {
  for (const [machine, body] of [
    ['m1', ''],
    // Too long for a replay: m1 gets it from m2.
    ['m2', 'x'.repeat(2_000_000)],
  ] as const) {
    test(`of traceparents ${what} a trace, without the tracestate, at ${machine}`, async (t) => {
      const fleet = await startTracedFleet(t);
      const headers = { ...IN_SESSION, traceparent: [...traceParents], tracestate: 'vendor=1' };
      const url = `${fleet.machines.get(machine)?.url}/call`;
      const sent = request(url, { method: 'POST', headers }).end(body);
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      assert.equal(await text(response), 'm1');
      const span = only(await fleet.stop(), machine);
      assert.equal(span.parentId, '');
      assert.ok(![TRACE, OTHER_TRACE].includes(span.traceId));
      const [seen, ...others] = fleet.seen;
      assert.deepEqual([seen?.headers.tracestate, others], [undefined, []]);
    });
  }
}

describe('sampling', () => {
  test('follows the client: what it does not sample is passed on as such, and not sent', async (t) => {
    const fleet = await startTracedFleet(t);
    const traceparent = CLIENT.traceparent.replace(/01$/, '00');
    await (await fleet.send('m2', { headers: { ...IN_SESSION, traceparent } })).text();
    assert.equal((await fleet.stop()).size, 0);
    const sent = String(fleet.seen[0]?.headers.traceparent);
    assert.match(sent, new RegExp(`^00-${TRACE}-[\\da-f]{16}-00$`));
    assert.ok(!sent.includes(CLIENT_SPAN));
  });

  test('is the setting where the client has no trace', async (t) => {
    const env = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' };
    const fleet = await startTracedFleet(t, ['m1'], env);
    await (await fleet.send('m1', {})).text();
    await (await fleet.send('m1', { headers: CLIENT })).text();
    assert.equal(only(await fleet.stop(), 'm1').traceId, TRACE);
  });
});

describe('a span ends with', () => {
  test('an event stream', async (t) => {
    const { fleet, during } = await openThenClose(t, async (fleet) => {
      const abort = new AbortController();
      const response = await fleet.send('m1', { path: '/stream', signal: abort.signal });
      await response.body?.getReader().read();
      return () => {
        abort.abort();
        return Promise.resolve();
      };
    });
    const span = only(await fleet.stop(), 'm1');
    assert.equal(during, 0);
    assert.equal(span.attributes['http.response.status_code'], 200);
    assert.equal(span.attributes['fly_affinity.reason'], 'the client disconnected before its end');
  });

  test('a WebSocket', async (t) => {
    const { fleet, during } = await openThenClose(t, async (fleet) => {
      const socket = new WebSocket(fleet.url.replace('http', 'ws'), { headers: CLIENT });
      await once(socket, 'open');
      socket.send('hello');
      await once(socket, 'message');
      return async () => {
        socket.close();
        await once(socket, 'close');
      };
    });
    const span = only(await fleet.stop(), 'm1');
    assert.equal(during, 0);
    assert.deepEqual([span.traceId, span.parentId], [TRACE, CLIENT_SPAN]);
    assert.equal(span.attributes['http.response.status_code'], 101);
    assert.equal(fleet.seen[0]?.headers.traceparent, `00-${TRACE}-${span.spanId}-01`);
  });
});

interface OpenThenClosed {
  readonly fleet: TracedFleet;
  /** Request lines while it was open. */
  readonly during: number;
}

async function openThenClose(
  t: TestContext,
  open: (fleet: TracedFleet) => Promise<() => Promise<void>>,
): Promise<OpenThenClosed> {
  const ended = Promise.withResolvers<undefined>();
  let lineCount = 0;
  const { logger } = createMemoryLog(() => {
    lineCount += 1;
    ended.resolve(undefined);
  });
  const fleet = await startTracedFleet(t, ['m1'], {}, { logger });
  const close = await open(fleet);
  const during = lineCount;
  await close();
  await ended.promise;
  return { fleet, during };
}

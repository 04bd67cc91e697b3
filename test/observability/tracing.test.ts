/** Traces by OpenTelemetry's SDK, and collectors that do not work. */
import assert from 'node:assert/strict';
import { createServer as createTcpServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { BATCH_SPANS, MAX_WAITING_SPANS } from '../../src/observability/otlp-exporter.ts';
import { createOtlpTracing } from '../../src/observability/otlp-tracing.ts';
import {
  formatSpanId,
  formatTraceParent,
  parseSpanId,
  parseTraceParent,
  type ArrivedSpan,
  type EndedSpan,
  type Tracing,
  type TracingOptions,
} from '../../src/observability/tracing.ts';
import { until } from '../fleet/support.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { startCollector } from '../support/collector.ts';
import { heldAfter } from '../support/held-bytes.ts';
import { createMemoryLog, type MemoryLog } from '../support/log.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const PARENT = { traceId: TRACE, spanId: SPAN, isSampled: true };

describe('a parent', () => {
  for (const [text, parent] of [
    [`00-${TRACE}-${SPAN}-01`, PARENT],
    [`00-${TRACE}-${SPAN}-03`, PARENT],
    [`00-${TRACE}-${SPAN}-00`, { ...PARENT, isSampled: false }],
    [`cc-${TRACE}-${SPAN}-01-what-comes-later`, PARENT],
    [`ff-${TRACE}-${SPAN}-01`, undefined],
    [`00-${'0'.repeat(32)}-${SPAN}-01`, undefined],
    [`00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
    [`00-${TRACE.toUpperCase()}-${SPAN}-01`, undefined],
    [` 00-${TRACE}-${SPAN}-01`, undefined],
    ['', undefined],
  ] as const) {
    test(`in traceparent: ${JSON.stringify(text)} is ${parent ? 'one' : 'none'}`, () => {
      assert.deepEqual(parseTraceParent(text), parent);
    });
  }

  for (const [text, parent] of [
    [`${TRACE}-${SPAN}-01`, PARENT],
    [`${TRACE}-${SPAN}-00`, { ...PARENT, isSampled: false }],
    [`00-${TRACE}-${SPAN}-01`, undefined],
    [`${TRACE}-${SPAN}-01-x`, undefined],
    [`${TRACE}-${SPAN}-01\n`, undefined],
    [`${TRACE}-${SPAN}`, undefined],
    [`${'0'.repeat(32)}-${SPAN}-01`, undefined],
    [`${TRACE}-${'0'.repeat(16)}-01`, undefined],
    ['', undefined],
  ] as const) {
    test(`in the state of a replay: ${JSON.stringify(text)} is ${parent ? 'one' : 'none'}`, () => {
      assert.deepEqual(parseSpanId(text), parent);
    });
  }

  test('is parsed as it was formatted', () => {
    assert.deepEqual(parseSpanId(formatSpanId(PARENT)), PARENT);
    const unsampled = { ...PARENT, isSampled: false };
    assert.deepEqual(parseSpanId(formatSpanId(unsampled)), unsampled);
  });
});

const ARRIVED: ArrivedSpan = {
  ...{ method: 'POST', traceParent: undefined, replayedBy: undefined, scheme: 'https' },
  ...{ host: '[::1]:8080', clientAddress: '::1', minorVersion: 0, userAgent: undefined },
};
const ENDED: EndedSpan = {
  ...{ requestId: 'r1', path: '/', status: 200, decision: 'local', why: 'no-session' },
  ...{ reason: undefined, session: undefined, protocol: undefined, owner: undefined },
};
const TOKEN = 's3cret-token';

interface OpenTracing {
  readonly tracing: Tracing;
  readonly clock: TestClock;
  readonly log: MemoryLog;
}

function open(url: string, options: Partial<TracingOptions> = {}): OpenTracing {
  const clock = createTestClock();
  const log = createMemoryLog();
  const tracing = createOtlpTracing(
    {
      ...{ url: `${url}/v1/traces`, headers: { authorization: TOKEN } },
      ...{ sampler: 'parentbased_always_on', ratio: 1, resource: { 'service.name': 'a' } },
      ...options,
    },
    { clock, logger: log.logger, random: () => 0, version: '1' },
  );
  return { tracing, clock, log };
}

function trace({ tracing }: OpenTracing, count: number): void {
  for (let i = 0; i < count; i += 1) tracing.begin(ARRIVED).end(ENDED);
}

/** Stops it, whatever the collector does. */
async function stop({ tracing, clock }: OpenTracing): Promise<void> {
  let isStopped = false;
  const stopped = tracing.stop().then(() => (isStopped = true));
  await until(async () => {
    await clock.advance(10);
    return isStopped;
  });
  await stopped;
}

test('a span has the times of the clock', async (t) => {
  const collector = await startCollector(t);
  const opened = open(collector.url);
  const span = opened.tracing.begin(ARRIVED);
  await opened.clock.advance(1_500);
  span.end(ENDED);
  await stop(opened);
  const [sent] = collector.spans;
  const startMs = Date.UTC(2026, 0, 1);
  assert.deepEqual(
    [sent?.startNs, sent?.endNs],
    [BigInt(startMs) * 1_000_000n, BigInt(startMs + 1_500) * 1_000_000n],
  );
  assert.deepEqual(
    ['server.address', 'server.port', 'url.scheme', 'network.protocol.version'].map(
      (name) => sent?.attributes[name],
    ),
    ['::1', 8080, 'https', '1.0'],
  );
  assert.equal(formatTraceParent(span), `00-${sent?.traceId}-${sent?.spanId}-01`);
});

test('a span that waits keeps nothing of a long head but short copies', async (t) => {
  const collector = await startCollector(t);
  const opened = open(collector.url);
  const held = heldAfter(() => {
    for (let i = 0; i < 100; i += 1) {
      const head = Buffer.from(`00-${TRACE}-${SPAN}-01`.padEnd(1_000_000, 'x')).toString('latin1');
      const [traceParent, long] = [head.slice(0, 55), head.slice(60)];
      opened.tracing
        .begin({ ...ARRIVED, traceParent, method: long, host: long, userAgent: long })
        .end({ ...ENDED, requestId: head.slice(60, 90), path: head.slice(100, 300) });
    }
  });
  assert.ok(held < 2_000_000, `${held} bytes`);
  await stop(opened);
  const [span] = collector.spans;
  assert.deepEqual([span?.traceId, span?.parentId], [TRACE, SPAN]);
  for (const value of Object.values(span?.attributes ?? {}))
    assert.ok(String(value).length <= 257, String(value));
});

test('a request without a response is a span without a status', async (t) => {
  const collector = await startCollector(t);
  const opened = open(collector.url);
  opened.tracing.begin(ARRIVED).end({ ...ENDED, status: 0, decision: undefined, why: undefined });
  await stop(opened);
  const attributes = collector.spans[0]?.attributes ?? {};
  assert.deepEqual(
    ['http.response.status_code', 'error.type', 'fly_affinity.decision'].filter(
      (name) => name in attributes,
    ),
    [],
  );
});

for (const [sampler, ofNew, ofSampled, ofUnsampled] of [
  ['always_on', 1, 1, 1],
  ['always_off', 0, 0, 0],
  ['traceidratio', 0, 0, 0],
  ['parentbased_always_on', 1, 1, 0],
  ['parentbased_always_off', 0, 1, 0],
  ['parentbased_traceidratio', 0, 1, 0],
] as const) {
  test(`the sampler ${sampler}, with a share of 0 if it has one`, async (t) => {
    for (const [traceParent, count] of [
      [undefined, ofNew],
      [`00-${TRACE}-${SPAN}-01`, ofSampled],
      [`00-${TRACE}-${SPAN}-00`, ofUnsampled],
    ] as const) {
      const collector = await startCollector(t);
      const opened = open(collector.url, { sampler, ratio: 0 });
      const span = opened.tracing.begin({ ...ARRIVED, traceParent });
      span.end(ENDED);
      await stop(opened);
      assert.equal(collector.spans.length, count, String(traceParent));
      assert.ok(span.id.endsWith(count === 1 ? '-01' : '-00'));
    }
  });
}

describe('a collector that', () => {
  /** One line, which has no header of the request and nothing of the response. */
  function assertReported({ lines }: MemoryLog, reason: RegExp): void {
    assert.deepEqual(
      lines.map(({ level, message }) => [level, message]),
      [['warn', 'could not export traces']],
    );
    const text = JSON.stringify(lines);
    assert.match(text, reason);
    assert.ok(!text.includes('undefined'), text);
    assert.ok(!text.includes(TOKEN) && !text.includes('from the collector'), text);
  }

  test('is not there is reported, after retries', async () => {
    const opened = open('http://127.0.0.1:1');
    trace(opened, 3);
    await stop(opened);
    assertReported(opened.log, /ECONNREFUSED/);
    assert.equal(opened.clock.pendingCount(), 0);
  });

  test('responds with 500 is reported, with that status', async (t) => {
    const collector = await startCollector(t, (response) =>
      response.writeHead(500).end('from the collector'),
    );
    const opened = open(collector.url);
    trace(opened, 3);
    await stop(opened);
    assertReported(opened.log, /the collector responded 500/);
    assertReported(opened.log, new RegExp(`"url":"${collector.url}/v1/traces"`));
    assert.equal(collector.requests.length, 1);
  });

  test('fails often is reported once a minute', async (t) => {
    const collector = await startCollector(t, (response) => response.writeHead(401).end());
    const opened = open(collector.url);
    trace(opened, BATCH_SPANS);
    await until(() => opened.log.lines.length > 0);
    trace(opened, 1);
    await stop(opened);
    assert.equal(collector.requests.length, 2);
    assertReported(opened.log, /responded 401/);
  });

  test('is overloaded gets the same spans again', async (t) => {
    let count = 0;
    const collector = await startCollector(t, (response) => {
      count += 1;
      response.writeHead(count === 1 ? 503 : 200).end();
    });
    const opened = open(collector.url);
    trace(opened, 1);
    await stop(opened);
    const [first, second, ...others] = collector.spans.map(({ spanId }) => spanId);
    assert.deepEqual([second, others], [first, []]);
    assert.deepEqual(opened.log.lines, []);
  });

  test('gets the User-Agent of the sidecar, unless a setting has another', async (t) => {
    const collector = await startCollector(t);
    for (const headers of [{}, { 'user-agent': 'shop' }]) {
      const opened = open(collector.url, { headers });
      trace(opened, 1);
      await stop(opened);
    }
    assert.deepEqual(
      collector.requests.map((request) => request.headers['user-agent']),
      ['fly-affinity-OTLP-Exporter-JavaScript/1', 'shop'],
    );
  });

  test('redirects gets nothing more', async (t) => {
    const other = await startCollector(t);
    const collector = await startCollector(t, (response) =>
      response.writeHead(307, { location: `${other.url}/v1/traces` }).end(),
    );
    const opened = open(collector.url);
    trace(opened, 1);
    await stop(opened);
    assertReported(opened.log, /responded 307/);
    assert.deepEqual(other.requests, []);
  });

  test('never responds holds up the end for a second, and gets a bounded number of spans', async (t) => {
    const collector = await startCollector(t, () => undefined);
    const opened = open(collector.url);
    trace(opened, 20_000);
    await until(() => collector.requests.length > 0);
    const begunAt = opened.clock.monotonicMs();
    await stop(opened);
    assert.ok(opened.clock.monotonicMs() - begunAt <= 1_010);
    assert.ok(
      collector.spans.length <= BATCH_SPANS + MAX_WAITING_SPANS,
      `${collector.spans.length} spans`,
    );
  });

  test('never responds is given up after ten seconds', async (t) => {
    const collector = await startCollector(t, () => undefined);
    const opened = open(collector.url);
    trace(opened, BATCH_SPANS);
    await until(() => collector.requests.length > 0);
    await opened.clock.advance(10_000);
    await until(() => opened.log.lines.length > 0);
    assertReported(opened.log, /did not respond within 10000 ms/);
    await stop(opened);
  });

  test('sends without end is cut off', async (t) => {
    const closed = Promise.withResolvers<undefined>();
    const collector = await startCollector(t, (response) => {
      response.once('close', () => closed.resolve(undefined));
      const send = (): void => {
        while (response.write(Buffer.alloc(65_536)));
      };
      response.on('drain', send);
      send();
    });
    const opened = open(collector.url);
    trace(opened, BATCH_SPANS);
    await closed.promise;
    await stop(opened);
  });

  test('does not speak TLS is reported in plain words', async (t) => {
    const collector = await startCollector(t);
    const opened = open(collector.url.replace('http:', 'https:'));
    trace(opened, 1);
    await stop(opened);
    assertReported(opened.log, /"the collector does not speak TLS on this port"/);
  });

  for (const [what, bytes, reason] of [
    [
      'no HTTP',
      'from the collector, but no HTTP\r\n\r\n',
      /"reason":"Response does not match the HTTP\/1.1 protocol/,
    ],
    [
      'a malformed length',
      'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nfrom the collector',
      /"reason"/,
    ],
    ['nothing, and closes', '', /"reason"/],
  ] as const) {
    test(`sends ${what} is reported`, async (t) => {
      const opened = open(await serveBytes(t, bytes));
      trace(opened, 1);
      await stop(opened);
      assertReported(opened.log, reason);
    });
  }
});

/** The URL of a server that responds with these bytes to anything, and closes. */
async function serveBytes(t: TestContext, bytes: string): Promise<string> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

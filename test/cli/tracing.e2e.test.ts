/** The process with traces and without: what it loads, and how it ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { startCollector } from '../support/collector.ts';
import { serveApp } from '../support/sidecar.ts';
import { lineWithMessage, linesOf, start, type Line } from './program.ts';

/** Logs each module of OpenTelemetry, and of ours for it, that is loaded; prom-client has the API too. */
const LOG_LOADED = `
  import { registerHooks } from 'node:module';
  import { writeSync } from 'node:fs';
  registerHooks({
    resolve: (specifier, context, next) => {
      const resolved = next(specifier, context);
      if (/opentelemetry[/](?!api[/])|otlp-|[/]undici[/]/.test(resolved.url))
        writeSync(1, JSON.stringify({ msg: 'loaded', url: resolved.url }) + '\\n');
      return resolved;
    },
  });
`;

interface Served {
  /** The URLs of those modules. */
  readonly loaded: readonly string[];
  readonly lines: readonly Line[];
  readonly exit: readonly [code: number | null, signal: string | null];
}

/** Serves one request, then ends by a signal. */
async function serveOnce(t: TestContext, env: Record<string, string>): Promise<Served> {
  const appPort = await serveApp(t, (_request, response) => response.end('ok'));
  const child = start(t, {
    args: ['serve'],
    before: LOG_LOADED,
    env: { UPSTREAM_URL: `http://127.0.0.1:${appPort}`, DRAIN_TIMEOUT_MS: '1', ...env },
  });
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>;
  const lines: Line[] = [];
  const source = linesOf(child);
  const following = (async function* () {
    for await (const line of source) {
      lines.push(line);
      yield line;
    }
  })();
  const { ports } = await lineWithMessage(following, 'serving');
  const { public: port } = ports as { readonly public: number };
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'ok');
  child.kill('SIGTERM');
  for (let next = await following.next(); !next.done;) next = await following.next();
  const loaded = lines.filter(({ msg }) => msg === 'loaded').map(({ url }) => String(url));
  return { loaded, lines, exit: await ended };
}

test('without a collector, nothing of OpenTelemetry is loaded', async (t) => {
  const { loaded, exit } = await serveOnce(t, { OTEL_SERVICE_NAME: 'shop' });
  assert.deepEqual([loaded, exit], [[], [0, null]]);
});

test('with a collector, the log names it, and the last spans are sent before the process ends', async (t) => {
  const collector = await startCollector(t);
  const { loaded, lines, exit } = await serveOnce(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  });
  assert.ok(loaded.some((url) => url.includes('@opentelemetry/sdk-trace')));
  assert.deepEqual(exit, [0, null]);
  assert.deepEqual(
    collector.spans.map(({ name }) => name),
    ['GET'],
  );
  const serving = lines.find(({ msg }) => msg === 'serving');
  assert.equal(serving?.traces, `${collector.url}/v1/traces`);
});

test('a collector that is not there fails no request, and the process ends in order', async (t) => {
  const { lines, exit } = await serveOnce(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
  });
  assert.deepEqual(exit, [0, null]);
  assert.ok(lines.some(({ msg }) => msg === 'stopped'));
});

test('a collector that hangs fails no request, and the process ends in order', async (t) => {
  const { url } = await startCollector(t, () => undefined);
  const { lines, exit } = await serveOnce(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
  });
  assert.deepEqual(exit, [0, null]);
  assert.ok(lines.some(({ msg }) => msg === 'stopped'));
});

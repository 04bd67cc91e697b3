/** The request id that connects the log lines of one request. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { freePort } from '../../support/free-port.ts';
import { createMemoryLog } from '../../support/log.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import { get, serveRecordingApp, rawSidecarAt } from './support.ts';

interface Logged {
  /** In the access-log line of the request. */
  readonly request: unknown;
  /** In each `upstream failed` line. */
  readonly failures: readonly unknown[];
}

/** Sends one request to an app that fails, and returns the request ids in the log. */
async function logOf(
  t: TestContext,
  appPort: number,
  lines: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Logged> {
  const written = Promise.withResolvers<object>();
  const log = createMemoryLog((line) => written.resolve(line));
  const { ports } = await startTestSidecar(t, appPort, env, { logger: log.logger });
  const client = await rawSidecarAt(t, ports.public, await serveRecordingApp(t)).connect();
  client.send(get('/', ...lines, 'Connection: close').replace('GET', 'POST'));
  await client.untilClosed();
  const { requestId } = (await written.promise) as { readonly requestId?: unknown };
  const failures = log.lines.filter(({ message }) => message === 'upstream failed');
  return {
    request: requestId,
    failures: failures.map(({ fields }) => (fields as { readonly requestId?: unknown }).requestId),
  };
}

const resetting = (text: string) => (t: TestContext) =>
  serveRawApp(t, (socket) => socket.write(text, () => socket.resetAndDestroy()));

describe('the "upstream failed" line has the request id of the access-log line:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, serveApp: (t: TestContext) => Promise<number>, env?: Readonly<Record<string, string>>])[] = [
    ['the app does not listen', () => freePort()],
    ['the app resets before its response', (t) => serveRawApp(t, (socket) => socket.resetAndDestroy())],
    ['the app ends before its response', (t) => serveRawApp(t, (socket) => socket.end())],
    ['the app sends bytes that are not HTTP', resetting('SSH-2.0-OpenSSH_9.9\r\n\r\n')],
    ['the app resets in the middle of its response', resetting('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello')],
    ['the app is too slow', (t) => serveRawApp(t, () => undefined), { UPSTREAM_HEAD_TIMEOUT_MS: '50' }],
  ];
  for (const [claim, serveApp, env] of rows) {
    test(`${claim}, with an id from the edge`, async (t) => {
      const ids = await logOf(t, await serveApp(t), ['Fly-Request-Id: 01HX-ams'], env);
      assert.deepEqual(ids, { request: '01HX-ams', failures: ['01HX-ams'] });
    });

    test(`${claim}, without an id from the edge`, async (t) => {
      const { request, failures } = await logOf(t, await serveApp(t), [], env);
      assert.match(String(request), /^[\w-]{8,}$/);
      assert.deepEqual(failures, [request]);
    });
  }
});

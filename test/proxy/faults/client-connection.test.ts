/**
 * The state machine of a client connection: a request, its response, the next request; a FIN of the
 * client; local responses of the sidecar.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import type { Environment } from '../../../src/config/config.ts';
import { createTestClock, startTurnClock } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  BOUNDED,
  chunk,
  echo,
  eventually,
  get,
  post,
  postInChunks,
  readResponses,
  requestText,
  serveRecordingApp,
  summaryOf,
  untilArrived,
  untilEnded,
  untilResponses,
} from './support.ts';

describe('a connection', () => {
  test('serves one request after another, for any split of the bytes', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t);
    const { ports } = await startTestSidecar(t, app.port);
    const client = await openClient(t, ports.public);
    client.socket.setNoDelay(true);
    const requests = [
      get('/1', 'X-A: b'),
      post('/2', 'two'),
      postInChunks('/3', 'three'),
      `\r\n${get('/4')}`,
      requestText('HEAD', '/5'),
      get('/6', 'Connection: close'),
    ];
    for (const byte of requests.join('')) {
      await new Promise((resolve) => client.socket.write(byte, resolve));
    }
    const { responses, rest } = await untilEnded(client, ['', '', '', '', 'HEAD']);
    assert.deepEqual(
      [...responses.map(summaryOf), rest],
      ['200 GET /1', '200 POST /2 two', '200 POST /3 three', '200 GET /4', '200', '200 GET /6', ''],
    );
  });

  test(
    'carries a response while the request is still being sent, and then serves the next',
    BOUNDED,
    async (t) => {
      const app = await serveRecordingApp(t, (req, res) => {
        if (req.method === 'POST') req.pipe(res);
        else echo(req, res);
      });
      const { ports } = await startTestSidecar(t, app.port);
      const client = await openClient(t, ports.public);
      client.send(requestText('POST', '/', 'Transfer-Encoding: chunked'));
      for (const word of ['one', 'two', 'three']) {
        client.send(chunk(word));
        await client.until((text) => text.includes(word));
      }
      client.send(`0\r\n\r\n${get('/next')}`);
      const responses = await untilResponses(client, 2);
      assert.deepEqual(responses.map(summaryOf), ['200 onetwothree', '200 GET /next']);
    },
  );
});

describe('a client that sends a FIN after its request', () => {
  for (const [name, text, expected] of [
    ['a GET', get('/'), '200 GET /'],
    ['a POST', post('/', 'hello'), '200 POST / hello'],
    ['a POST in chunks', postInChunks('/', 'hello'), '200 POST / hello'],
  ] as const) {
    test(`gets its response from a slow app: ${name}`, BOUNDED, async (t) => {
      const heldResponse = Promise.withResolvers<() => void>();
      const app = await serveRecordingApp(t, (req, res) =>
        heldResponse.resolve(() => echo(req, res)),
      );
      const sidecar = await startTestSidecar(t, app.port);
      const client = await openClient(t, sidecar.ports.public);
      client.socket.end(text);
      const respond = await heldResponse.promise;
      await untilArrived(sidecar);
      respond();
      const { responses } = await untilEnded(client);
      assert.deepEqual(responses.map(summaryOf), [expected]);
    });
  }

  test('gets the rest of a response with Content-Length', BOUNDED, async (t) => {
    const opened = Promise.withResolvers<ServerResponse>();
    const app = await serveRecordingApp(t, (_req, res) => {
      res.writeHead(200, { 'content-length': 9 }).write('hello');
      opened.resolve(res);
    });
    const sidecar = await startTestSidecar(t, app.port);
    const client = await openClient(t, sidecar.ports.public);
    client.send(get('/'));
    await client.until((text) => text.endsWith('hello'));
    client.socket.end();
    await untilArrived(sidecar);
    (await opened.promise).end(' all');
    const { responses } = await untilEnded(client);
    assert.deepEqual(responses.map(summaryOf), ['200 hello all']);
  });

  test(
    'does not keep an endless response open: it is aborted at the app within seconds',
    BOUNDED,
    async (t) => {
      const opened = Promise.withResolvers<ServerResponse>();
      const app = await serveRecordingApp(t, (_req, res) => {
        res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
        opened.resolve(res);
      });
      const clock = createTestClock();
      const sidecar = await startTestSidecar(t, app.port, {}, { clock });
      const client = await openClient(t, sidecar.ports.public);
      client.send(get('/'));
      await client.until((text) => text.includes('data: 1'));
      client.socket.end();
      const res = await opened.promise;
      let isClosed = false;
      res.once('close', () => (isClosed = true));
      for (let seconds = 0; seconds < 10; seconds += 1) {
        await untilArrived(sidecar);
        await clock.advance(1_000);
      }
      await eventually(sidecar, () => isClosed, 'the response of the app is aborted');
      await client.untilClosed();
    },
  );

  test(
    'in the middle of its body gets no response, and the app sees the request aborted',
    BOUNDED,
    async (t) => {
      const app = await serveRecordingApp(t);
      const sidecar = await startTestSidecar(t, app.port);
      for (const text of [
        `${requestText('POST', '/', 'Content-Length: 9')}hello`,
        requestText('POST', '/', 'Transfer-Encoding: chunked') + chunk('hello'),
      ]) {
        const client = await openClient(t, sidecar.ports.public);
        const arrived = once(app.server, 'request');
        client.send(text);
        const [, res] = (await arrived) as [unknown, ServerResponse];
        const closed = once(res, 'close');
        client.socket.end();
        await closed;
        assert.doesNotMatch(await client.untilClosed(), /^HTTP\/1\.1 200/);
      }
    },
  );
});

/** A fleet whose other Machine is unreachable. */
const FLEET = { FLEET: 'm2@127.0.0.1:9' };
const UNDELIVERED =
  'fly-replay-failed: instance=m2;app=a;region=ams;replay_source=m1;reason=timeout;elapsed_ms=1';

interface Local {
  readonly name: string;
  readonly status: number;
  readonly fields: readonly string[];
  readonly target?: string;
  readonly env?: Environment;
  /** The app never responds, or does not listen. */
  readonly app?: 'silent' | 'gone';
  readonly endsConnection?: boolean;
}

/** Local responses of the sidecar. */
// prettier-ignore
const LOCAL: readonly Local[] = [
  { name: 'a replay', status: 307, fields: ['Mcp-Session-Id: x~m2'], env: FLEET },
  { name: 'an unknown session', status: 404, fields: ['Mcp-Session-Id: x'], env: { UNKNOWN_SESSION: 'reject' } },
  { name: 'an unreachable owner', status: 503, fields: ['Mcp-Session-Id: x~m2', UNDELIVERED], env: FLEET },
  { name: 'an app that does not listen', status: 502, fields: [], app: 'gone' },
  { name: 'an app that is too slow', status: 504, fields: [], env: { UPSTREAM_HEAD_TIMEOUT_MS: '50' }, app: 'silent' },
  { name: 'two Host lines', status: 400, fields: ['Host: b'], endsConnection: true },
  { name: 'a fragment in the target', status: 400, fields: [], target: '/#f', endsConnection: true },
  { name: 'a folded line', status: 400, fields: ['X-A: b', ' c'], endsConnection: true },
  { name: 'a space before the colon', status: 400, fields: ['X-A : b'], endsConnection: true },
  { name: 'a head that is too large', status: 431, fields: [`X-A: ${'b'.repeat(70_000)}`], endsConnection: true },
];

async function startFor(
  t: TestContext,
  { app, env = {} }: Local,
): ReturnType<typeof startTestSidecar> {
  if (app === 'gone') return startTestSidecar(t, await freePort(), env);
  if (app === undefined) return startTestSidecar(t, (await serveRecordingApp(t)).port, env);
  const { port } = await serveRecordingApp(t, () => undefined);
  return startTestSidecar(t, port, env, { clock: startTurnClock(t) });
}

describe('a local response to a HEAD has no body:', () => {
  for (const local of LOCAL) {
    test(local.name, BOUNDED, async (t) => {
      const sidecar = await startFor(t, local);
      const client = await openClient(t, sidecar.ports.public);
      client.send(requestText('HEAD', local.target ?? '/', ...local.fields));
      const [first] = await untilResponses(client, 1, ['HEAD']);
      await untilArrived(sidecar);
      assert.equal(first?.status, local.status);
      assert.equal(readResponses(client.received(), ['HEAD']).rest, '');
      if (local.endsConnection) {
        await client.untilClosed();
        return;
      }
      client.send(requestText('HEAD', local.target ?? '/', ...local.fields));
      const [, second] = await untilResponses(client, 2, ['HEAD', 'HEAD']);
      assert.equal(second?.status, local.status);
    });
  }

  for (const [path, status, env] of [
    ['/', 404, {}],
    ['/v1/forward', 400, {}],
    ['/', 403, { FLEET: 'm9@127.0.0.9:9' }],
  ] as const) {
    test(`${status} of the peer port to ${path}`, BOUNDED, async (t) => {
      const app = await serveRecordingApp(t);
      const sidecar = await startTestSidecar(t, app.port, { ...FLEET, ...env });
      const client = await openClient(t, sidecar.ports.peer);
      client.send(requestText('HEAD', path));
      const [response] = await untilResponses(client, 1, ['HEAD']);
      await untilArrived(sidecar);
      assert.equal(response?.status, status);
      assert.equal(readResponses(client.received(), ['HEAD']).rest, '');
    });
  }
});

describe('a local response to a request with a body does not disturb the next request:', () => {
  for (const local of LOCAL.filter(({ endsConnection }) => !endsConnection)) {
    for (const [how, upload] of [
      ['with a length', post],
      ['in chunks', postInChunks],
    ] as const) {
      test(`${local.name}, a body ${how}`, BOUNDED, async (t) => {
        const { ports } = await startFor(t, local);
        const client = await openClient(t, ports.public);
        // No part of the body may count as a request.
        const body = get('/smuggled').repeat(100);
        const text = upload('/', body, ...local.fields);
        client.send(text + text);
        const responses = await untilResponses(client, 2);
        const statuses = responses.map(({ status }) => status);
        assert.deepEqual(statuses, expectedStatuses(local, how));
      });
    }
  }

  /** A request without a known length is not replayed but forwarded, which fails here. */
  function expectedStatuses({ name, status }: Local, how: string): number[] {
    const isForwarded = name === 'a replay' && how === 'in chunks';
    return isForwarded ? [503, 503] : [status, status];
  }
});

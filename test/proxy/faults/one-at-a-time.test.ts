/**
 * Fault 4: a client connection opened one connection to the app for each pipelined request. The next
 * request of a connection is read only after the previous response is finished (invariant 12).
 */
import assert from 'node:assert/strict';
import type { RequestListener, ServerResponse } from 'node:http';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { startTestSidecar } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  bodyOf,
  BOUNDED,
  echo,
  get,
  post,
  postInChunks,
  requestText,
  serveRecordingApp,
  summaryOf,
  untilArrived,
  untilResponses,
} from './support.ts';

const COUNT = 200;

/** Takes some turns for each response, so that concurrent requests would overlap. */
const respondLater: RequestListener = (req, res) => {
  void bodyOf(req).then(async (body) => {
    for (let turn = 0; turn < 3; turn += 1) await nextTurn();
    res.end(`${req.method ?? ''} ${req.url ?? ''} ${body}`.trim());
  });
};

/** The kinds of requests that the client pipelines, in rotation. */
const KINDS: readonly (readonly [method: string, text: (target: string) => string])[] = [
  ['GET', get],
  ['POST', (target) => post(target, `body of ${target}`)],
  ['POST', (target) => postInChunks(target, `body of ${target}`)],
  ['HEAD', (target) => requestText('HEAD', target)],
  ['DELETE', (target) => requestText('DELETE', target)],
  ['PUT', (target) => requestText('PUT', target, 'Content-Length: 0')],
];

function kindOf(i: number): (typeof KINDS)[number] {
  return KINDS[i % KINDS.length] ?? assert.fail();
}

describe('pipelined requests of one connection', () => {
  test(
    `reach the app one at a time, in order, on one connection: ${COUNT} GETs`,
    BOUNDED,
    async (t) => {
      const app = await serveRecordingApp(t, respondLater);
      const { ports } = await startTestSidecar(t, app.port);
      const client = await openClient(t, ports.public);
      const targets = Array.from({ length: COUNT }, (_, i) => `/${i}`);
      client.send(targets.map((target) => get(target)).join(''));
      const responses = await untilResponses(client, COUNT);
      const lines = targets.map((target) => `GET ${target}`);
      assert.deepEqual(
        responses.map(summaryOf),
        lines.map((line) => `200 ${line}`),
      );
      assert.deepEqual(app.seen, lines);
      assert.deepEqual([app.mostAtOnce(), app.connectionCount()], [1, 1]);
    },
  );

  test('run one after another, with and without bodies', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t, respondLater);
    const { ports } = await startTestSidecar(t, app.port);
    const client = await openClient(t, ports.public);
    const all = Array.from({ length: 10 * KINDS.length }, (_, i) => i);
    client.send(all.map((i) => kindOf(i)[1](`/${i}`)).join(''));
    const methods = all.map((i) => kindOf(i)[0]);
    const responses = await untilResponses(client, all.length, methods);
    assert.deepEqual(
      responses.map(summaryOf),
      all.map((i) => {
        if (methods[i] === 'HEAD') return '200';
        const body = methods[i] === 'POST' ? ` body of /${i}` : '';
        return `200 ${methods[i] ?? ''} /${i}${body}`;
      }),
    );
    assert.deepEqual(
      app.seen,
      all.map((i) => `${methods[i] ?? ''} /${i}`),
    );
    assert.equal(app.mostAtOnce(), 1);
  });

  test(
    'wait for the previous request: a POST does not start while the previous POST runs',
    BOUNDED,
    async (t) => {
      const held: (() => void)[] = [];
      const app = await serveRecordingApp(t, (req, res) => held.push(() => echo(req, res)));
      const sidecar = await startTestSidecar(t, app.port);
      const client = await openClient(t, sidecar.ports.public);
      client.send(post('/1', 'one') + postInChunks('/2', 'two') + post('/3', 'three'));
      for (let count = 1; count <= 3; count += 1) {
        await untilArrived(sidecar);
        assert.equal(held.length, count);
        assert.equal(app.seen.at(-1), `POST /${count}`);
        held.at(-1)?.();
        await untilResponses(client, count);
      }
      const responses = await untilResponses(client, 3);
      assert.deepEqual(responses.map(summaryOf), [
        '200 POST /1 one',
        '200 POST /2 two',
        '200 POST /3 three',
      ]);
    },
  );

  test('wait for the end of a streamed response', BOUNDED, async (t) => {
    const stream = Promise.withResolvers<ServerResponse>();
    const app = await serveRecordingApp(t, (req, res) => {
      if (req.url === '/stream') {
        res.write('one ');
        stream.resolve(res);
      } else echo(req, res);
    });
    const sidecar = await startTestSidecar(t, app.port);
    const client = await openClient(t, sidecar.ports.public);
    client.send(get('/stream') + get('/next'));
    await client.until((text) => text.includes('one '));
    await untilArrived(sidecar);
    assert.deepEqual(app.seen, ['GET /stream']);
    (await stream.promise).end('two');
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 one two', '200 GET /next']);
  });

  test('are not buffered without limit while one of them waits', BOUNDED, async (t) => {
    const held = Promise.withResolvers<() => void>();
    const app = await serveRecordingApp(t, (req, res) => {
      if (req.url === '/slow') held.resolve(() => echo(req, res));
      else void bodyOf(req).then((body) => res.end(String(body.length)));
    });
    const sidecar = await startTestSidecar(t, app.port);
    const client = await openClient(t, sidecar.ports.public);
    const size = 32_000_000;
    client.send(get('/slow') + post('/large', 'x'.repeat(size)));
    const respondToSlow = await held.promise;
    await untilArrived(sidecar);
    assert.deepEqual(app.seen, ['GET /slow']);
    // The socket buffers hold a part, and the sidecar has not read the rest.
    assert.ok(client.socket.writableLength > 0);
    respondToSlow();
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 GET /slow', `200 ${size}`]);
  });
});

describe('pipelined requests', () => {
  test('reach the app one at a time for each of several connections', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t, respondLater);
    const { ports } = await startTestSidecar(t, app.port);
    const clients = await Promise.all(['a', 'b', 'c'].map(() => openClient(t, ports.public)));
    const targetsOf = (k: number): string[] => Array.from({ length: 30 }, (_, i) => `/${k}/${i}`);
    clients.forEach((client, k) =>
      client.send(
        targetsOf(k)
          .map((target) => get(target))
          .join(''),
      ),
    );
    for (const [k, client] of clients.entries()) {
      const responses = await untilResponses(client, 30);
      assert.deepEqual(
        responses.map(summaryOf),
        targetsOf(k).map((target) => `200 GET ${target}`),
      );
    }
    assert.ok(app.mostAtOnce() <= clients.length);
    assert.ok(app.connectionCount() <= clients.length);
  });

  test('after one whose app closes get their own responses, in order', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t, (req, res) => {
      if (req.url === '/dies') req.socket.destroy();
      else echo(req, res);
    });
    const { ports } = await startTestSidecar(t, app.port);
    const client = await openClient(t, ports.public);
    client.send(post('/dies', 'x') + post('/1', 'one') + post('/dies', 'x') + get('/2'));
    const responses = await untilResponses(client, 4);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [502, 200, 502, 200],
    );
    assert.deepEqual(app.seen, ['POST /dies', 'POST /1', 'POST /dies', 'GET /2']);
  });

  test('after one whose response is aborted do not reach the app', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t, (req, res) => {
      if (req.url === '/breaks') res.write('half', () => req.socket.destroy());
      else echo(req, res);
    });
    const sidecar = await startTestSidecar(t, app.port);
    for (const first of [get('/breaks'), post('/breaks', 'body')]) {
      const client = await openClient(t, sidecar.ports.public);
      client.send(first + get('/next') + post('/next', 'body'));
      const received = await client.untilClosed();
      assert.equal(received.split('HTTP/1.1 ').length - 1, 1);
      assert.ok(received.includes('half') && !received.endsWith('0\r\n\r\n'));
    }
    await untilArrived(sidecar);
    assert.deepEqual(app.seen, ['GET /breaks', 'POST /breaks']);
  });

  test('of a client that disconnected do not reach the app', BOUNDED, async (t) => {
    const arrived = Promise.withResolvers<ServerResponse>();
    const app = await serveRecordingApp(t, (_req, res) => arrived.resolve(res));
    const sidecar = await startTestSidecar(t, app.port);
    const client = await openClient(t, sidecar.ports.public);
    client.send(get('/slow') + get('/next') + post('/next', 'body'));
    const res = await arrived.promise;
    const closed = new Promise((resolve) => res.once('close', resolve));
    client.socket.resetAndDestroy();
    await closed;
    await untilArrived(sidecar);
    assert.deepEqual(app.seen, ['GET /slow']);
  });

  test(
    'before a FIN all get their responses, and then the connection closes',
    BOUNDED,
    async (t) => {
      const app = await serveRecordingApp(t, respondLater);
      const { ports } = await startTestSidecar(t, app.port);
      const client = await openClient(t, ports.public);
      client.send(get('/1') + post('/2', 'two') + postInChunks('/3', 'three') + get('/4'));
      client.socket.end();
      await client.untilClosed();
      const responses = await untilResponses(client, 4);
      assert.deepEqual(responses.map(summaryOf), [
        '200 GET /1',
        '200 POST /2 two',
        '200 POST /3 three',
        '200 GET /4',
      ]);
    },
  );
});

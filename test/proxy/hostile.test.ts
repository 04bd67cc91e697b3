/** Regressions: input that once ended the process, lost a message, or leaked a resource. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { startTurnClock } from '../support/clock.ts';
import { openClient, openRawClient } from '../support/raw.ts';
import { serveRawApp } from '../support/raw-app.ts';
import { serve, serveApp, startTestSidecar } from '../support/sidecar.ts';

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';

describe('a response that announces trailers but has no chunked body', () => {
  const chunked =
    'Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n';
  for (const [name, request, response, expected] of [
    [
      'a Trailer before a body of known length',
      'GET / HTTP/1.1',
      'Trailer: X-Sum\r\nContent-Length: 2\r\n\r\nok',
      /ok$/,
    ],
    [
      'a Trailer to a HEAD',
      'HEAD / HTTP/1.1',
      'Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n',
      /^HTTP\/1\.1 200 OK\r\n/,
    ],
    ['a Trailer to a client of HTTP/1.0', 'GET / HTTP/1.0', chunked, /\r\n\r\nok$/],
  ] as const) {
    test(`passes without trailers: ${name}`, async (t) => {
      const app = await serveRawApp(t, (socket) => socket.write(`HTTP/1.1 200 OK\r\n${response}`));
      const { ports } = await startTestSidecar(t, app);
      const client = await openClient(t, ports.public);
      client.send(`${request}\r\nHost: a\r\nConnection: close\r\n\r\n`);
      const text = await client.untilClosed();
      assert.match(text, expected);
      assert.doesNotMatch(text, /x-sum/i);
    });
  }

  test('trailers neither reveal an id nor route', async (t) => {
    const app = await serveRawApp(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n' +
          'Mcp-Session-Id: x\r\nSet-Cookie: a=b\r\nConnection: close\r\nFly-Replay: instance=m2\r\nX-Sum: 1\r\n\r\n',
      ),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const text = await client.until((all) => all.endsWith('\r\n\r\n') && all.includes('X-Sum: 1'));
    assert.ok(text.endsWith('\r\n0\r\nX-Sum: 1\r\n\r\n'), text);
  });
});

describe('an interim response', () => {
  async function responseTo(t: TestContext, version: string, early: string): Promise<string> {
    const app = await serveRawApp(t, (socket) =>
      socket.write(`${early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(`GET / HTTP/${version}\r\nHost: a\r\n\r\n`);
    return client.until((all) => all.endsWith('ok'));
  }

  test('is passed on with a list of links', async (t) => {
    const links = '</a.css>; rel=preload, </b.js>; rel=preload';
    const text = await responseTo(t, '1.1', `HTTP/1.1 103 Early Hints\r\nLink: ${links}\r\n\r\n`);
    assert.ok(
      text.startsWith(`HTTP/1.1 103 Early Hints\r\nLink: ${links}\r\n\r\nHTTP/1.1 200 OK`),
      text,
    );
  });

  test('reveals no id, no cookie and no length', async (t) => {
    const early =
      'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nMcp-Session-Id: x\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\n\r\n';
    const text = await responseTo(t, '1.1', early);
    assert.ok(text.startsWith('HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n'), text);
  });

  test('is passed on with an invalid field, and dropped for HTTP/1.0', async (t) => {
    const odd = 'HTTP/1.1 103 Early Hints\r\nLink: nonsense\r\n\r\n';
    assert.ok((await responseTo(t, '1.1', odd)).startsWith(odd));
    assert.match(
      await responseTo(t, '1.0', `HTTP/1.1 102 Processing\r\n\r\n${odd}`),
      /^HTTP\/1\.1 200 OK/,
    );
  });
});

describe('an upgrade', () => {
  for (const [name, headers] of [
    ['to h2c', 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n'],
    ['to a WebSocket', UPGRADE],
  ] as const) {
    test(`${name} with a body is ignored, and the body reaches the app`, async (t) => {
      const app = await serveApp(t, (req, res) => {
        let body = '';
        req.on('data', (chunk: Buffer) => (body += chunk.toString()));
        req.on('end', () => res.end(`${body} ${req.headers.upgrade ?? 'none'}`));
      });
      const { ports } = await startTestSidecar(t, app);
      for (const body of [
        'Content-Length: 5\r\n\r\nhello',
        'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
      ]) {
        const client = await openClient(t, ports.public);
        client.send(`POST / HTTP/1.1\r\nHost: a\r\n${headers}${body}`);
        const text = await client.until((all) => all.endsWith('hello none'));
        assert.match(text, /^HTTP\/1\.1 200 /);
      }
    });
  }

  test('to h2c is removed from a list of protocols, and the choice of the app reaches the client', async (t) => {
    const requested: string[] = [];
    const app = await serveRawApp(t, (socket, request) => {
      requested.push(/\r\nUpgrade: (.*)\r\n/i.exec(request)?.[1] ?? '');
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: b\r\n\r\n');
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: a, h2c\r\nUpgrade: b\r\n\r\n',
    );
    const text = await client.until((all) => all.endsWith('\r\n\r\n'));
    assert.match(text, /\r\nUpgrade: b\r\n/);
    assert.deepEqual(requested, ['a, b']);
  });

  test('that the app rejects leaves no socket open, even if the client stays idle', async (t) => {
    const app = createServer();
    app.on('upgrade', (_req, socket) => {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    });
    const sidecar = await startTestSidecar(t, await serve(t, app));
    const client = await openClient(t, sidecar.ports.public);
    client.socket.allowHalfOpen = true;
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\nmore`);
    await client.until((all) => all.includes(' 403 '));
    await sidecar.stop();
  });

  test('whose client disconnects before the 101 is closed at the app', async (t) => {
    const appClosed = Promise.withResolvers<undefined>();
    const arrived = Promise.withResolvers<undefined>();
    const app = createServer();
    app.on('upgrade', (_req, socket) => {
      socket.on('end', () => socket.destroy()).on('error', () => undefined);
      socket.on('close', () => appClosed.resolve(undefined));
      socket.resume();
      arrived.resolve(undefined);
    });
    const parts = { clock: startTurnClock(t) };
    const { ports } = await startTestSidecar(t, await serve(t, app), {}, parts);
    const client = await openRawClient(ports.public);
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${UPGRADE}\r\n`);
    await arrived.promise;
    const closed = once(client.socket, 'close');
    client.socket.end();
    await appClosed.promise;
    await closed;
  });
});

test('an HTTP/1.0 request without a Host reaches the app with the Host of the app', async (t) => {
  const app = await serveApp(t, (req, res) => res.end(req.headers.host));
  const { ports } = await startTestSidecar(t, app);
  const client = await openClient(t, ports.public);
  client.send('GET / HTTP/1.0\r\n\r\n');
  assert.match(await client.untilClosed(), new RegExp(`127\\.0\\.0\\.1:${app}$`));
});

test('returns 400 for a target with a fragment, because two parsers may find different queries', async (t) => {
  const app = await serveApp(t, (_req, res) => res.end());
  const { ports } = await startTestSidecar(t, app);
  const client = await openClient(t, ports.public);
  client.send('GET /a#?session_id=x HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until((all) => all.startsWith('HTTP/1.1 400 '));
});

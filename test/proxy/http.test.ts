/** HTTP between real servers and clients: the sidecar loses no part of a message and adds none. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openClient } from '../support/raw.ts';
import { serveRawApp } from '../support/raw-app.ts';
import { serve, serveApp, startTestSidecar } from '../support/sidecar.ts';

async function bodyOf(message: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of message) text += String(chunk);
  return text;
}

function hasEnded(text: string): boolean {
  return text.endsWith('0\r\n\r\n');
}

describe('message heads pass through unchanged', () => {
  test('request headers reach the app in order and case, latin-1 and repeated ones too', async (t) => {
    const seen = Promise.withResolvers<string[]>();
    const app = await serveApp(t, (req, res) => {
      seen.resolve(req.rawHeaders);
      res.end('ok');
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(
      'GET /a//b?x=%20y HTTP/1.1\r\nHost: example.com\r\nX-Thing: one\r\nACCEPT: */*\r\nx-thing: two\r\n' +
        'X-Umlaut: \xfc\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\r\n',
    );
    await client.until((text) => text.endsWith('ok'));
    const headers = (await seen.promise).filter((_, i, all) => {
      const name = all[i - (i % 2)]?.toLowerCase();
      return name !== 'host' && name !== 'connection';
    });
    assert.deepEqual(headers, [
      ...['X-Thing', 'one', 'ACCEPT', '*/*', 'x-thing', 'two', 'X-Umlaut', '\xfc'],
      ...['X-Forwarded-For', '1.2.3.4, 5.6.7.8', 'X-Forwarded-Proto', 'https'],
      ...['Via', '1.1 fly-affinity (m1)'],
    ]);
  });

  test('the target and the Host reach the app unchanged', async (t) => {
    const app = await serveApp(t, (req, res) =>
      res.end(`${req.url ?? ''} ${req.headers.host ?? ''}`),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET //a/../b;c?x=%7E~&&y HTTP/1.1\r\nHost: example.com:8443\r\n\r\n');
    const text = await client.until((all) => all.includes('8443'));
    assert.match(text, /\/\/a\/\.\.\/b;c\?x=%7E~&&y example\.com:8443$/);
  });

  test('hop-by-hop headers and headers that Connection names are removed in both directions', async (t) => {
    const seen = Promise.withResolvers<string[]>();
    const app = await serveRawApp(t, (socket, request) => {
      seen.resolve(request.split('\r\n'));
      socket.write(
        'HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nKeep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nok',
      );
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n',
    );
    const text = await client.until((all) => all.endsWith('ok'));
    assert.doesNotMatch(text, /x-hop|timeout=9/i);
    assert.match(text, /X-Kept: 2/);
    const lines = await seen.promise;
    assert.ok(lines.includes('X-Kept: 2'));
    assert.ok(!lines.some((line) => /^(x-mine|te):/i.test(line)));
  });

  test('latin-1 response headers reach the client byte for byte, on a stream too', async (t) => {
    const app = await serveRawApp(t, (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nX-Umlaut: \xfc\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
        'latin1',
      ),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const text = await client.until(hasEnded);
    assert.match(text, /^HTTP\/1\.1 200 OK\r\nX-Umlaut: \xfc\r\n/);
  });

  test('x-forwarded-for and x-forwarded-proto are added if they are missing', async (t) => {
    const app = await serveApp(t, (req, res) =>
      res.end(
        `${String(req.headers['x-forwarded-for'])} ${String(req.headers['x-forwarded-proto'])}`,
      ),
    );
    const { ports } = await startTestSidecar(t, app);
    const response = await fetch(`http://127.0.0.1:${ports.public}/`);
    assert.equal(await response.text(), '127.0.0.1 http');
  });

  test('no Date and no other header is added to a response', async (t) => {
    const app = await serveRawApp(t, (socket) =>
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok'),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const text = await client.until((all) => all.endsWith('ok'));
    const names = text
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(':')[0]);
    assert.deepEqual(names, ['Content-Length', 'X-A', '', 'ok']);
  });
});

describe('responses pass through unchanged', () => {
  for (const [name, response, method, expected] of [
    ['a HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n', 'HEAD', /Content-Length: 99/],
    [
      'a 204',
      'HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n',
      'GET',
      /^HTTP\/1\.1 204 No Content\r\nX-A: b/,
    ],
    [
      'a 304',
      'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
      'GET',
      /^HTTP\/1\.1 304 Not Modified\r\nETag: "x"/,
    ],
    ['an empty 200', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 'GET', /Content-Length: 0/],
  ] as const) {
    test(`${name} passes through and leaves the connection usable`, async (t) => {
      const app = await serveRawApp(t, (socket) => socket.write(response));
      const { ports } = await startTestSidecar(t, app);
      const client = await openClient(t, ports.public);
      for (let i = 1; i <= 2; i += 1) {
        client.send(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`);
        const text = await client.until((all) => all.split('\r\n\r\n').length === i + 1);
        assert.match(text, expected);
      }
    });
  }

  test('early hints and trailers pass through', async (t) => {
    const app = await serveApp(t, (_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload' });
      res.writeHead(200, { trailer: 'x-sum' });
      res.write('body');
      res.addTrailers({ 'x-sum': '42' });
      res.end();
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n');
    const text = await client.until((all) => all.includes('x-sum: 42'));
    assert.match(text, /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a\.css>; rel=preload\r\n/i);
    assert.match(text, /0\r\nx-sum: 42\r\n\r\n$/);
  });

  test('an event stream reaches the client event by event', async (t) => {
    const opened = Promise.withResolvers<http.ServerResponse>();
    const app = await serveApp(t, (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.flushHeaders();
      opened.resolve(res);
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((all) => all.includes('\r\n\r\n'));
    const stream = await opened.promise;
    for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
      stream.write(event);
      await client.until((all) => all.includes(event));
    }
    stream.end();
    await client.until(hasEnded);
  });
});

describe('bodies', () => {
  for (const [name, size] of [
    ['small', 1_000],
    ['of 100 KB', 100_000],
    ['of 5 MB', 5_000_000],
  ] as const) {
    test(`a ${name} body is echoed complete, with a length and in chunks`, async (t) => {
      const app = await serveApp(t, (req, res) => {
        res.writeHead(200, { 'x-length': req.headers['content-length'] ?? 'none' });
        req.pipe(res);
      });
      const { ports } = await startTestSidecar(t, app);
      const body = Buffer.alloc(size, 'abcdefghij');
      for (const headers of [{ 'content-length': String(size) }, {}]) {
        const req = http.request({
          port: ports.public,
          host: '127.0.0.1',
          method: 'POST',
          headers,
        });
        req.write(body.subarray(0, 10));
        req.end(body.subarray(10));
        const [res] = (await once(req, 'response')) as [IncomingMessage];
        assert.equal(res.headers['x-length'], headers['content-length'] ?? 'none');
        assert.equal((await bodyOf(res)).length, size);
      }
    });
  }

  test('many large concurrent bodies are not mixed up, even if some clients read slowly', async (t) => {
    const size = 3_000_000;
    const bodyFor = (letter: string): Buffer => Buffer.alloc(size, `${letter}0123456789`);
    const app = await serveApp(t, (req, res) => {
      const body = bodyFor(req.url?.at(-1) ?? '');
      if (req.url?.startsWith('/chunked')) res.end(body);
      else res.writeHead(200, { 'content-length': size }).end(body);
    });
    const { ports } = await startTestSidecar(t, app);
    const read = async (path: string, isSlow: boolean): Promise<void> => {
      const req = http.get({ port: ports.public, host: '127.0.0.1', path });
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of res) {
        chunks.push(chunk as Buffer);
        if (isSlow) await new Promise((resolve) => setImmediate(resolve));
      }
      assert.ok(Buffer.concat(chunks).equals(bodyFor(path.at(-1) ?? '')), path);
    };
    const paths = Array.from('abcdefgh').flatMap((letter) => [
      `/sized/${letter}`,
      `/chunked/${letter}`,
    ]);
    await Promise.all(paths.map((path, i) => read(path, i % 3 === 0)));
  });

  test('Expect: 100-continue gets a 100 response before the body is sent', async (t) => {
    const app = await serveApp(
      t,
      (req, res) => void bodyOf(req).then((text) => res.end(`got ${text}`)),
    );
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n');
    await client.until((all) => all.startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
    client.send('hello');
    await client.until((all) => all.endsWith('got hello'));
  });

  test('the response of an app that has not read the upload reaches the client, and the next request follows', async (t) => {
    const app = await serveApp(t, (req, res) => {
      if (req.method === 'GET') res.end('second');
      else res.writeHead(413, { 'content-length': 5 }).end('large');
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n');
    client.send('x'.repeat(100_000));
    await client.until((all) => all.endsWith('large'));
    client.send('x'.repeat(200_000));
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    const text = await client.until((all) => all.endsWith('second'));
    assert.equal(text.split('HTTP/1.1 ').length, 3);
  });

  for (const [length, staysOpen] of [
    [300_000, true],
    [300_000_000, false],
  ] as const) {
    const then = staysOpen ? 'stays open' : 'is closed after the response, with Connection: close';
    test(`when the app closes before it has read ${length} bytes, the client connection ${then}`, async (t) => {
      const app = await serveApp(t, (_req, res) => {
        res.writeHead(413, { 'content-length': 5, connection: 'close' }).end('large');
      });
      const { ports } = await startTestSidecar(t, app);
      const client = await openClient(t, ports.public);
      client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`);
      client.send('x'.repeat(100_000));
      const text = await client.until((all) => all.endsWith('large'));
      assert.equal(text.includes('\r\nConnection: close\r\n'), !staysOpen);
      if (!staysOpen) {
        await client.untilClosed();
        return;
      }
      client.send('x'.repeat(200_000));
      client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      await client.until((all) => all.split('large').length === 3);
    });
  }
});

describe('failures', () => {
  test('returns 502 with Retry-After if the app does not listen', async (t) => {
    const server = http.createServer();
    const port = await serve(t, server);
    server.close();
    await once(server, 'close');
    const { ports } = await startTestSidecar(t, port);
    const response = await fetch(`http://127.0.0.1:${ports.public}/`);
    assert.equal(response.status, 502);
    assert.equal(response.headers.get('retry-after'), '1');
  });

  test('returns 504 if the app is slower than UPSTREAM_HEAD_TIMEOUT_MS', async (t) => {
    const app = await serveApp(t, () => undefined);
    const { ports } = await startTestSidecar(t, app, { UPSTREAM_HEAD_TIMEOUT_MS: '50' });
    const response = await fetch(`http://127.0.0.1:${ports.public}/`);
    assert.equal(response.status, 504);
  });

  test('a response that the app aborts is aborted for the client, and never ends as if complete', async (t) => {
    for (const head of [
      'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
      'Content-Length: 9\r\n\r\nhello',
    ]) {
      const app = await serveRawApp(t, (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\n${head}`, () => setImmediate(() => socket.destroy()));
      });
      const { ports } = await startTestSidecar(t, app);
      const client = await openClient(t, ports.public);
      client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      const text = await client.untilClosed();
      assert.match(text, /hello/);
      assert.ok(!hasEnded(text));
    }
  });

  test('a client that disconnects ends the request at the app', async (t) => {
    const closed = Promise.withResolvers<undefined>();
    const arrived = Promise.withResolvers<undefined>();
    const app = await serveApp(t, (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.flushHeaders();
      res.on('close', () => closed.resolve(undefined));
      arrived.resolve(undefined);
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await arrived.promise;
    client.socket.destroy();
    await closed.promise;
  });

  test('a client that disconnects in the middle of its upload ends the request at the app', async (t) => {
    const closed = Promise.withResolvers<undefined>();
    const arrived = Promise.withResolvers<undefined>();
    const app = await serveApp(t, (req) => {
      req.on('error', () => closed.resolve(undefined));
      req.once('data', () => arrived.resolve(undefined));
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc');
    await arrived.promise;
    client.socket.destroy();
    await closed.promise;
  });

  test('a GET is retried if the app closes the connection at the same moment, a POST is not', async (t) => {
    const requests: string[] = [];
    const app = await serveRawApp(t, (socket, request, count) => {
      requests.push(request.split(' ')[0] ?? '');
      if (count % 2 === 0) socket.destroy();
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
    const { ports } = await startTestSidecar(t, app);
    const url = `http://127.0.0.1:${ports.public}/`;
    const statuses: number[] = [];
    for (const method of ['GET', 'GET', 'POST']) {
      const response = await fetch(url, { method });
      await response.text();
      statuses.push(response.status);
    }
    assert.deepEqual(statuses, [200, 200, 502]);
    assert.deepEqual(requests, ['GET', 'GET', 'GET', 'POST']);
  });

  test('a client that reads slowly slows down the app', async (t) => {
    let writtenBytes = 0;
    const app = await serveApp(t, (_req, res) => {
      const chunk = Buffer.alloc(65_536);
      const more = (): void => {
        while (res.write(chunk)) writtenBytes += chunk.length;
        writtenBytes += chunk.length;
      };
      res.on('drain', more);
      more();
    });
    const { ports } = await startTestSidecar(t, app);
    const client = await openClient(t, ports.public);
    client.socket.pause();
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    // The socket buffers of both connections and the buffer of the sidecar.
    const mostBytes = 40_000_000;
    let before = -1;
    let quietTurns = 0;
    while (quietTurns < 1_000 && writtenBytes < mostBytes) {
      quietTurns = writtenBytes > 0 && writtenBytes === before ? quietTurns + 1 : 0;
      before = writtenBytes;
      await nextTurn();
    }
    assert.ok(writtenBytes < mostBytes, String(writtenBytes));
  });
});

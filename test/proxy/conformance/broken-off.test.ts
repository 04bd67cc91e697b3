/**
 * An aborted message on one side of the sidecar is aborted on the other (RFC 9112 §8). Where the
 * receiver could take the end of the connection for the end of the body, the sidecar resets it.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { openFleet } from '../../support/fleet.ts';
import { openRawClient, type RawClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { serveApp, startTestSidecar } from '../../support/sidecar.ts';
import { endingOf, OF_M1 } from './support.ts';

/** The path from the client to the app: through one sidecar, or through two. */
type Path = 'local' | 'forwarded';
const PATHS: readonly Path[] = ['local', 'forwarded'];

const REPLAYED = OF_M1.map((line) => `${line}\r\n`).join('');

async function openClientVia(t: TestContext, path: Path, appPort: number): Promise<RawClient> {
  const client = await openRawClient(await portOf(t, path, appPort));
  t.after(() => client.socket.destroy());
  return client;
}

async function portOf(t: TestContext, path: Path, appPort: number): Promise<number> {
  if (path === 'local') return (await startTestSidecar(t, appPort)).ports.public;
  const fleet = await openFleet(t, 'm1', 'm2');
  await fleet.start('m1', appPort);
  const otherApp = await serveApp(t, () => assert.fail('the request is for another app'));
  return (await fleet.start('m2', otherApp)).sidecar.ports.public;
}

/** An app that writes the start of its response. `began` resolves with its socket. */
async function servePartial(
  t: TestContext,
  beginning: string,
): Promise<{ readonly port: number; readonly began: Promise<Socket> }> {
  const began = Promise.withResolvers<Socket>();
  const port = await serveRawApp(t, (socket) => {
    socket.write(beginning);
    began.resolve(socket);
  });
  return { port, began: began.promise };
}

const end = (socket: Socket): unknown => socket.end();
const reset = (socket: Socket): unknown => socket.resetAndDestroy();

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
const UNTIL_CLOSE = 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n';
const OLD = 'HTTP/1.0 200 OK\r\n\r\n';

// prettier-ignore
const ABORTS: readonly (readonly [claim: string, beginning: string, abort: (socket: Socket) => unknown])[] = [
  ['in a chunk, with FIN', `${CHUNKED}9\r\nhello`, end],
  ['in a chunk, with RST', `${CHUNKED}9\r\nhello`, reset],
  ['between chunks, with FIN', `${CHUNKED}5\r\nhello\r\n`, end],
  ['between chunks, with RST', `${CHUNKED}5\r\nhello\r\n`, reset],
  ['after the last chunk, with FIN', `${CHUNKED}5\r\nhello\r\n0\r\n`, end],
  ['in a body without a length, with RST', `${UNTIL_CLOSE}hello`, reset],
  ['in a body of HTTP/1.0, with RST', `${OLD}hello`, reset],
  ['in a stream of events, with FIN', `${CHUNKED.replace('\r\n', '\r\nContent-Type: text/event-stream\r\n')}7\r\nhello\n\n\r\n`, end],
];

for (const path of PATHS) {
  describe(`an HTTP/1.0 client receives RST if the app aborts its response (${path})`, () => {
    for (const [claim, beginning, abort] of ABORTS) {
      test(claim, async (t) => {
        const app = await servePartial(t, beginning);
        const client = await openClientVia(t, path, app.port);
        const ending = endingOf(client.socket);
        client.send(`GET / HTTP/1.0\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        abort(await app.began);
        assert.equal(await ending, 'reset');
      });
    }
  });

  describe(`an HTTP/1.1 client receives no end of the body if the app aborts its response (${path})`, () => {
    for (const [claim, beginning, abort] of ABORTS) {
      test(claim, async (t) => {
        const app = await servePartial(t, beginning);
        const client = await openClientVia(t, path, app.port);
        client.send(`GET / HTTP/1.1\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        abort(await app.began);
        const text = await client.untilClosed();
        assert.match(text, /\r\nTransfer-Encoding: chunked\r\n/i);
        assert.doesNotMatch(text, /\r\n0\r\n\r\n$/);
      });
    }
  });

  describe(`an HTTP/1.0 client receives FIN after a complete body (${path})`, () => {
    // prettier-ignore
    const rows: readonly (readonly [claim: string, beginning: string, finish: (socket: Socket) => unknown])[] = [
      ['in chunks', `${CHUNKED}5\r\nhello\r\n`, (socket) => socket.write('0\r\n\r\n')],
      ['without a length', `${UNTIL_CLOSE}hello`, end],
      ['of HTTP/1.0', `${OLD}hello`, end],
      ['of a length', 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello', (socket) => socket.write('!')],
    ];
    for (const [claim, beginning, finish] of rows) {
      test(claim, async (t) => {
        const app = await servePartial(t, beginning);
        const client = await openClientVia(t, path, app.port);
        const ending = endingOf(client.socket);
        client.send(`GET / HTTP/1.0\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        finish(await app.began);
        assert.equal(await ending, 'end');
      });
    }
  });

  describe(`a WebSocket ends the same way on both sides (${path}):`, () => {
    const SWITCH =
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello';

    async function openTunnel(
      t: TestContext,
    ): Promise<{ readonly client: Socket; readonly app: Socket }> {
      const app = await servePartial(t, SWITCH);
      const client = await openClientVia(t, path, app.port);
      client.send(
        `GET / HTTP/1.1\r\nHost: a\r\n${REPLAYED}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      );
      await client.until((text) => text.endsWith('hello'));
      return { client: client.socket, app: await app.began };
    }

    // prettier-ignore
    const rows: readonly (readonly [claim: string, by: 'app' | 'client', abort: (socket: Socket) => unknown, ending: 'end' | 'reset'])[] = [
      ['an RST of the app is an RST for the client', 'app', reset, 'reset'],
      ['an RST of the client is an RST for the app', 'client', reset, 'reset'],
      ['a FIN of the app is a FIN for the client', 'app', end, 'end'],
      ['a FIN of the client is a FIN for the app', 'client', end, 'end'],
    ];
    for (const [claim, by, abort, ending] of rows) {
      test(claim, async (t) => {
        const sides = await openTunnel(t);
        const other = endingOf(by === 'app' ? sides.client : sides.app);
        abort(sides[by]);
        assert.equal(await other, ending);
      });
    }
  });
}

test('the app never receives an aborted upload as complete', async (t) => {
  for (const abort of [end, reset]) {
    const arrived = Promise.withResolvers<Socket>();
    let received = '';
    const port = await serveRawApp(t, (socket, chunk) => {
      received += chunk;
      if (received.includes('hello')) arrived.resolve(socket);
    });
    const client = await openClientVia(t, 'local', port);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n');
    const app = await arrived.promise;
    const closed = new Promise((resolve) => app.once('close', resolve));
    abort(client.socket);
    await closed;
    assert.doesNotMatch(received, /\r\n0\r\n\r\n$/);
  }
});

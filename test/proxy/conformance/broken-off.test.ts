/**
 * What breaks on one side of the sidecar breaks on the other (RFC 9112 §8): an end that the receiver
 * could take for the end of the body is a reset.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { openFleet } from '../../support/fleet.ts';
import { openRawClient, type RawClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { serveApp, startTestSidecar } from '../../support/sidecar.ts';
import { endingOf } from './support.ts';

/** The way from the client to the app: through one sidecar, or through two. */
type Way = 'local' | 'forwarded';
const WAYS: readonly Way[] = ['local', 'forwarded'];

/** A session of the Machine `m1`, already replayed once: any other Machine forwards it. */
const REPLAYED = 'Mcp-Session-Id: abc~m1\r\nFly-Replay-Src: instance=m3;t=1;state=fly-affinity\r\n';

async function openWay(t: TestContext, way: Way, appPort: number): Promise<RawClient> {
  const client = await openRawClient(await portOf(t, way, appPort));
  t.after(() => client.socket.destroy());
  return client;
}

async function portOf(t: TestContext, way: Way, appPort: number): Promise<number> {
  if (way === 'local') return (await startTestSidecar(t, appPort)).ports.public;
  const fleet = await openFleet(t, 'm1', 'm2');
  await fleet.start('m1', appPort);
  const nowhere = await serveApp(t, () => assert.fail('the request was meant for another app'));
  return (await fleet.start('m2', nowhere)).sidecar.ports.public;
}

/** Resolves with the app's socket once it has written the beginning of its response. */
async function serveBeginning(
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
const BREAKS: readonly (readonly [claim: string, beginning: string, breakOff: (socket: Socket) => unknown])[] = [
  ['in a chunk, by its end', `${CHUNKED}9\r\nhello`, end],
  ['in a chunk, by a reset', `${CHUNKED}9\r\nhello`, reset],
  ['between chunks, by its end', `${CHUNKED}5\r\nhello\r\n`, end],
  ['between chunks, by a reset', `${CHUNKED}5\r\nhello\r\n`, reset],
  ['behind the last chunk, by its end', `${CHUNKED}5\r\nhello\r\n0\r\n`, end],
  ['in a body without a length, by a reset', `${UNTIL_CLOSE}hello`, reset],
  ['in a body of HTTP/1.0, by a reset', `${OLD}hello`, reset],
  ['in a stream of events, by its end', `${CHUNKED.replace('\r\n', '\r\nContent-Type: text/event-stream\r\n')}7\r\nhello\n\n\r\n`, end],
];

for (const way of WAYS) {
  describe(`a client of HTTP/1.0 is reset if the app breaks off (${way})`, () => {
    for (const [claim, beginning, breakOff] of BREAKS) {
      test(claim, async (t) => {
        const app = await serveBeginning(t, beginning);
        const client = await openWay(t, way, app.port);
        const ending = endingOf(client.socket);
        client.send(`GET / HTTP/1.0\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        breakOff(await app.began);
        assert.equal(await ending, 'reset');
      });
    }
  });

  describe(`a client of HTTP/1.1 receives no end of the body if the app breaks off (${way})`, () => {
    for (const [claim, beginning, breakOff] of BREAKS) {
      test(claim, async (t) => {
        const app = await serveBeginning(t, beginning);
        const client = await openWay(t, way, app.port);
        client.send(`GET / HTTP/1.1\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        breakOff(await app.began);
        const text = await client.untilClosed();
        assert.match(text, /\r\nTransfer-Encoding: chunked\r\n/i);
        assert.doesNotMatch(text, /\r\n0\r\n\r\n$/);
      });
    }
  });

  describe(`a client of HTTP/1.0 receives the end of a body that is whole (${way})`, () => {
    // prettier-ignore
    const rows: readonly (readonly [claim: string, beginning: string, finish: (socket: Socket) => unknown])[] = [
      ['in chunks', `${CHUNKED}5\r\nhello\r\n`, (socket) => socket.write('0\r\n\r\n')],
      ['without a length', `${UNTIL_CLOSE}hello`, end],
      ['of HTTP/1.0', `${OLD}hello`, end],
      ['of a length', 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello', (socket) => socket.write('!')],
    ];
    for (const [claim, beginning, finish] of rows) {
      test(claim, async (t) => {
        const app = await serveBeginning(t, beginning);
        const client = await openWay(t, way, app.port);
        const ending = endingOf(client.socket);
        client.send(`GET / HTTP/1.0\r\nHost: a\r\n${REPLAYED}\r\n`);
        await client.until((text) => text.includes('hello'));
        finish(await app.began);
        assert.equal(await ending, 'end');
      });
    }
  });

  describe(`a WebSocket ends on one side as on the other (${way}):`, () => {
    const SWITCH =
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello';

    async function openTunnel(
      t: TestContext,
    ): Promise<{ readonly client: Socket; readonly app: Socket }> {
      const app = await serveBeginning(t, SWITCH);
      const client = await openWay(t, way, app.port);
      client.send(
        `GET / HTTP/1.1\r\nHost: a\r\n${REPLAYED}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      );
      await client.until((text) => text.endsWith('hello'));
      return { client: client.socket, app: await app.began };
    }

    // prettier-ignore
    const rows: readonly (readonly [claim: string, by: 'app' | 'client', breakOff: (socket: Socket) => unknown, ending: 'end' | 'reset'])[] = [
      ['a reset of the app is a reset for the client', 'app', reset, 'reset'],
      ['a reset of the client is a reset for the app', 'client', reset, 'reset'],
      ['an end of the app is an end for the client', 'app', end, 'end'],
      ['an end of the client is an end for the app', 'client', end, 'end'],
    ];
    for (const [claim, by, breakOff, ending] of rows) {
      test(claim, async (t) => {
        const sides = await openTunnel(t);
        const other = endingOf(by === 'app' ? sides.client : sides.app);
        breakOff(sides[by]);
        assert.equal(await other, ending);
      });
    }
  });
}

test('an upload that its client breaks off never ends as if complete for the app', async (t) => {
  for (const breakOff of [end, reset]) {
    const arrived = Promise.withResolvers<Socket>();
    let received = '';
    const port = await serveRawApp(t, (socket, chunk) => {
      received += chunk;
      if (received.includes('hello')) arrived.resolve(socket);
    });
    const client = await openWay(t, 'local', port);
    client.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n');
    const app = await arrived.promise;
    const closed = new Promise((resolve) => app.once('close', resolve));
    breakOff(client.socket);
    await closed;
    assert.doesNotMatch(received, /\r\n0\r\n\r\n$/);
  }
});

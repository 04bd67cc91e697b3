/** WebSockets forwarded between two complete sidecars. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { serve, serveApp } from '../support/sidecar.ts';

/** Headers of a session of Machine `m1`, already replayed once, so that it is forwarded. */
const REPLAYED = {
  'mcp-session-id': 'abc~m1',
  'fly-replay-src': 'instance=m3;region=ams;t=1;state=fly-affinity',
};

const OTHER_APP = (): void => assert.fail('the request is for another app');

async function startForwarder(t: TestContext, fleet: TestFleet): Promise<TestMachine> {
  return fleet.start('m2', await serveApp(t, OTHER_APP));
}

describe('a WebSocket', () => {
  async function startSocketApp(t: TestContext): Promise<number> {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, req) => {
      socket.send(`${req.url ?? ''} ${String(req.headers['mcp-session-id'])}`);
      socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
    });
    return serve(t, server);
  }

  test('is forwarded to the owner, with bytes in both directions', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await fleet.start('m1', await startSocketApp(t));
    const m2 = await startForwarder(t, fleet);
    const socket = new WebSocket(`${m2.url.replace('http', 'ws')}/rpc?x=1`, { headers: REPLAYED });
    t.after(() => socket.terminate());
    const [first] = (await once(socket, 'message')) as [Buffer];
    assert.equal(String(first), '/rpc?x=1 abc');
    const large = Buffer.alloc(2_000_000, 'y');
    socket.send(large);
    const [echoed] = (await once(socket, 'message')) as [Buffer];
    assert.ok(echoed.equals(large));
    socket.close(4002, 'enough');
    const [code] = (await once(socket, 'close')) as [number];
    assert.equal(code, 4002);
  });

  test("is aborted when its owner's sidecar stops", async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await fleet.start('m1', await startSocketApp(t));
    const m2 = await startForwarder(t, fleet);
    const socket = new WebSocket(m2.url.replace('http', 'ws'), { headers: REPLAYED });
    await once(socket, 'message');
    const closed = once(socket, 'close') as Promise<[number]>;
    await m1.sidecar.stop();
    assert.deepEqual((await closed)[0], 1006);
  });

  test('that the app of the owner rejects gets the complete response', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const app = createServer();
    app.on('upgrade', (_req, socket) => {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nX-A: b\r\n\r\nnot you');
    });
    await fleet.start('m1', await serve(t, app));
    const m2 = await startForwarder(t, fleet);
    const socket = new WebSocket(m2.url.replace('http', 'ws'), { headers: REPLAYED });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    assert.deepEqual([response.statusCode, response.headers['x-a']], [403, 'b']);
    assert.equal(String((await response.toArray())[0]), 'not you');
  });

  test('returns 503 if its owner is unreachable', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m2 = await startForwarder(t, fleet);
    const socket = new WebSocket(m2.url.replace('http', 'ws'), { headers: REPLAYED });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    assert.deepEqual([response.statusCode, response.headers['retry-after']], [503, '1']);
    response.destroy();
  });
});

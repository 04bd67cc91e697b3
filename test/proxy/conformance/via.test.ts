/** `Via` (RFC 9110 §7.6.3), and requests that come back to where they have been (RFC 5842 §7.2: 508). */
import assert from 'node:assert/strict';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { createKeptLog } from '../../support/log.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  assertPassed,
  get,
  OF_M1,
  serveRecordingApp,
  startPair,
  startWire,
  statusOf,
  valuesOf,
  wireTo,
  type Message,
} from './support.ts';

/** All members of the list, without their comments. */
function hopsOf(message: Message | undefined): string[] {
  assert.ok(message);
  const list = valuesOf(message, 'via').join(',');
  return list.split(',').map((hop) => hop.replace(/\(.*\)/, '').trim());
}

const OWN = '1.1 fly-affinity';

describe('Via of a request names the sidecar last:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: readonly string[], hops: readonly string[]])[] = [
    ['alone', [], [OWN]],
    ['behind the edge', ['Via: 1.1 fly.io'], ['1.1 fly.io', OWN]],
    ['behind a list', ['Via: 1.0 fred, 2 p.example.net'], ['1.0 fred', '2 p.example.net', OWN]],
    ['behind two fields', ['Via: 1.0 fred', 'via: 2 p.example.net'], ['1.0 fred', '2 p.example.net', OWN]],
  ];
  for (const [claim, lines, hops] of rows) {
    test(claim, async (t) => {
      assert.deepEqual(hopsOf(await assertPassed(t, get('/', ...lines))), hops);
    });
  }

  test('with the version of the client', async (t) => {
    const wire = await startWire(t);
    await wire.exchange('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
    assert.deepEqual(hopsOf(wire.app.requests[0]), ['1.0 fly-affinity']);
  });

  test('when it asks for an upgrade', async (t) => {
    const wire = await startWire(t);
    await wire.exchange(get('/', 'Connection: Upgrade, close', 'Upgrade: websocket'));
    assert.deepEqual(hopsOf(wire.app.requests[0]), [OWN]);
  });

  test('when it was forwarded, at least once', async (t) => {
    const { app, forwarded } = await startPair(t);
    await forwarded.exchange(get('/', ...OF_M1, 'Via: 1.1 fly.io', 'Connection: close'));
    const [first, ...own] = hopsOf(app.requests[0]);
    assert.equal(first, '1.1 fly.io');
    assert.deepEqual([...new Set(own)], [OWN]);
  });
});

describe('a loop', () => {
  /** More turns than any loop should take, and far fewer than there are descriptors. */
  const MAX_TURNS = 20;

  interface Way {
    readonly port: number;
    leadTo(port: number): void;
  }

  /** A port that leads to another one, and to nowhere after that many connections. */
  async function openWay(t: TestContext): Promise<Way> {
    const sockets = new Set<Socket>();
    let [target, turns] = [0, 0];
    const server = createServer((near) => {
      turns += 1;
      const far = turns > MAX_TURNS ? near : connect(target, '127.0.0.1');
      for (const socket of [near, far]) sockets.add(socket.on('error', () => undefined));
      if (far === near) near.destroy();
      else near.pipe(far).pipe(near);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const { port } = server.address() as AddressInfo;
    return { port, leadTo: (known) => void (target = known) };
  }

  interface Sidecars {
    /** Of the first. */
    readonly port: number;
    /** Requests that all of them have answered. */
    readonly answered: () => number;
  }

  /** So many sidecars, each the app of the one before it, and the first that of the last. */
  async function startLoop(t: TestContext, count: number): Promise<Sidecars> {
    const back = await openWay(t);
    let [port, answered] = [back.port, 0];
    const { logger } = createKeptLog(() => void (answered += 1));
    for (let i = 0; i < count; i += 1) {
      const env = { FLY_MACHINE_ID: `m${i + 1}` };
      port = (await startTestSidecar(t, port, env, { logger })).ports.public;
    }
    back.leadTo(port);
    return { port, answered: () => answered };
  }

  const requestIn = (head: string, body = ''): string =>
    `${head}\r\nHost: a\r\nConnection: close\r\n${body}`;
  // prettier-ignore
  const rows: readonly (readonly [claim: string, count: number, sent: string])[] = [
    ['of a sidecar whose app is itself is answered 508: GET', 1, requestIn('GET / HTTP/1.1', '\r\n')],
    ['of a sidecar whose app is itself is answered 508: HTTP/1.0', 1, requestIn('GET / HTTP/1.0', '\r\n')],
    ['of a sidecar whose app is itself is answered 508: POST', 1, requestIn('POST / HTTP/1.1', 'Content-Length: 5\r\n\r\nhello')],
    ['of a sidecar whose app is itself is answered 508: an upgrade', 1, get('/', 'Connection: Upgrade, close', 'Upgrade: websocket')],
    ['of a sidecar whose app is itself is answered 508: a session', 1, requestIn('GET / HTTP/1.1', 'Mcp-Session-Id: abc~m1\r\n\r\n')],
    ['of two sidecars is answered 508', 2, requestIn('GET / HTTP/1.1', '\r\n')],
  ];
  for (const [claim, count, sent] of rows) {
    test(claim, async (t) => {
      const sidecars = await startLoop(t, count);
      const nowhere = await serveRecordingApp(t);
      const { messages } = await wireTo(t, sidecars.port, nowhere).exchange(sent);
      assert.equal(statusOf(messages[0]?.startLine ?? ''), 508);
      // An app that is a proxy may come back a few times.
      assert.ok(sidecars.answered() <= 3 * count + 1, `${sidecars.answered()} requests`);
    });
  }

  test('is none where a sidecar is the app of another sidecar', async (t) => {
    const app = await serveRecordingApp(t);
    const inner = await startTestSidecar(t, app.port);
    const outer = await startTestSidecar(t, inner.ports.public, { FLY_MACHINE_ID: 'm2' });
    const wire = wireTo(t, outer.ports.public, app);
    const { messages } = await wire.exchange(get('/', 'Connection: close'));
    assert.equal(statusOf(messages[0]?.startLine ?? ''), 200);
    assert.deepEqual(hopsOf(app.requests[0]), [OWN, OWN]);
  });
});

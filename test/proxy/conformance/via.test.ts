/** `Via` (RFC 9110 §7.6.3), and request loops (RFC 5842 §7.2: 508). */
import assert from 'node:assert/strict';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, test, type TestContext } from 'node:test';
import { createMemoryLog } from '../../support/log.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  assertReachesApp,
  get,
  OF_M1,
  serveRecordingApp,
  startPair,
  startRawSidecar,
  statusOf,
  valuesOf,
  rawSidecarAt,
  type Message,
} from './support.ts';

/** All members of the `Via` list, without their comments. */
function hopsOf(message: Message | undefined): string[] {
  assert.ok(message);
  const list = valuesOf(message, 'via').join(',');
  return list.split(',').map((hop) => hop.replace(/\(.*\)/, '').trim());
}

const OWN = '1.1 fly-affinity';

describe('the sidecar adds itself as the last member of Via:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, lines: readonly string[], hops: readonly string[]])[] = [
    ['to an empty Via', [], [OWN]],
    ['after the edge', ['Via: 1.1 fly.io'], ['1.1 fly.io', OWN]],
    ['after a list', ['Via: 1.0 fred, 2 p.example.net'], ['1.0 fred', '2 p.example.net', OWN]],
    ['after two fields', ['Via: 1.0 fred', 'via: 2 p.example.net'], ['1.0 fred', '2 p.example.net', OWN]],
  ];
  for (const [claim, lines, hops] of rows) {
    test(claim, async (t) => {
      assert.deepEqual(hopsOf(await assertReachesApp(t, get('/', ...lines))), hops);
    });
  }

  test("with the client's HTTP version", async (t) => {
    const sidecar = await startRawSidecar(t);
    await sidecar.responsesTo('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
    assert.deepEqual(hopsOf(sidecar.app.requests[0]), ['1.0 fly-affinity']);
  });

  test('to an upgrade request', async (t) => {
    const sidecar = await startRawSidecar(t);
    await sidecar.responsesTo(get('/', 'Connection: Upgrade, close', 'Upgrade: websocket'));
    assert.deepEqual(hopsOf(sidecar.app.requests[0]), [OWN]);
  });

  test('to a forwarded request, at least once', async (t) => {
    const { app, forwarded } = await startPair(t);
    await forwarded.responsesTo(get('/', ...OF_M1, 'Via: 1.1 fly.io', 'Connection: close'));
    const [first, ...own] = hopsOf(app.requests[0]);
    assert.equal(first, '1.1 fly.io');
    assert.deepEqual([...new Set(own)], [OWN]);
  });
});

describe('a request loop', () => {
  /** More rounds than any loop should take, and far fewer than the available file descriptors. */
  const MAX_ROUNDS = 20;

  interface Relay {
    readonly port: number;
    setTarget(port: number): void;
  }

  /** A TCP relay to another port. It closes connections after the first `MAX_ROUNDS`. */
  async function openRelay(t: TestContext): Promise<Relay> {
    const sockets = new Set<Socket>();
    let [target, rounds] = [0, 0];
    const server = createServer((near) => {
      rounds += 1;
      const far = rounds > MAX_ROUNDS ? near : connect(target, '127.0.0.1');
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
    return { port, setTarget: (known) => void (target = known) };
  }

  interface Sidecars {
    /** Public port of the first sidecar. */
    readonly port: number;
    /** Number of access-log lines of all the sidecars. */
    readonly loggedCount: () => number;
  }

  /** A ring of `count` sidecars: each is the app of the next one. */
  async function startLoop(t: TestContext, count: number): Promise<Sidecars> {
    const back = await openRelay(t);
    let [port, loggedCount] = [back.port, 0];
    const { logger } = createMemoryLog(() => void (loggedCount += 1));
    for (let i = 0; i < count; i += 1) {
      const env = { FLY_MACHINE_ID: `m${i + 1}` };
      port = (await startTestSidecar(t, port, env, { logger })).ports.public;
    }
    back.setTarget(port);
    return { port, loggedCount: () => loggedCount };
  }

  const requestIn = (head: string, body = ''): string =>
    `${head}\r\nHost: a\r\nConnection: close\r\n${body}`;
  // prettier-ignore
  const rows: readonly (readonly [claim: string, count: number, sent: string])[] = [
    ['of a sidecar whose app is itself returns 508: GET', 1, requestIn('GET / HTTP/1.1', '\r\n')],
    ['of a sidecar whose app is itself returns 508: HTTP/1.0', 1, requestIn('GET / HTTP/1.0', '\r\n')],
    ['of a sidecar whose app is itself returns 508: POST', 1, requestIn('POST / HTTP/1.1', 'Content-Length: 5\r\n\r\nhello')],
    ['of a sidecar whose app is itself returns 508: an upgrade', 1, get('/', 'Connection: Upgrade, close', 'Upgrade: websocket')],
    ['of a sidecar whose app is itself returns 508: a session', 1, requestIn('GET / HTTP/1.1', 'Mcp-Session-Id: abc~m1\r\n\r\n')],
    ['of two sidecars returns 508', 2, requestIn('GET / HTTP/1.1', '\r\n')],
  ];
  for (const [claim, count, sent] of rows) {
    test(claim, async (t) => {
      const sidecars = await startLoop(t, count);
      const app = await serveRecordingApp(t);
      const { messages } = await rawSidecarAt(t, sidecars.port, app).responsesTo(sent);
      assert.equal(statusOf(messages[0]?.startLine ?? ''), 508);
      // An app that is a proxy may send a request back a few times.
      assert.ok(sidecars.loggedCount() <= 3 * count + 1, `${sidecars.loggedCount()} requests`);
    });
  }

  test('is not detected where a sidecar is the app of another sidecar', async (t) => {
    const app = await serveRecordingApp(t);
    const inner = await startTestSidecar(t, app.port);
    const outer = await startTestSidecar(t, inner.ports.public, { FLY_MACHINE_ID: 'm2' });
    const sidecar = rawSidecarAt(t, outer.ports.public, app);
    const { messages } = await sidecar.responsesTo(get('/', 'Connection: close'));
    assert.equal(statusOf(messages[0]?.startLine ?? ''), 200);
    assert.deepEqual(hopsOf(app.requests[0]), [OWN, OWN]);
  });
});

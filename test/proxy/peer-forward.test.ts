/** Complete sidecars that query, announce and forward to each other over their real peer listeners. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { IncomingMessage, RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { BINDINGS_PATH } from '../../src/fleet/join/reader.ts';
import { STATUS_PATH } from '../../src/fleet/messages.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { openClient } from '../support/raw.ts';
import { serveApp } from '../support/sidecar.ts';

/** A request as an app received it. */
interface ReceivedRequest {
  readonly at: string;
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: number;
}

/** Mints `abc` for `/open`, and echoes every other request. */
function appOf(at: string): RequestListener {
  return (req, res) => {
    if (req.url === '/open') {
      res.writeHead(200, { 'mcp-session-id': 'abc' }).end();
      return;
    }
    let bytes = 0;
    req.on('data', (chunk: Buffer) => (bytes += chunk.length));
    req.on('end', () => {
      const { method = '', url = '', headers } = req;
      res.end(JSON.stringify({ at, method, url, headers, bytes } satisfies ReceivedRequest));
    });
  };
}

async function startMachine(
  t: TestContext,
  fleet: TestFleet,
  id: string,
  env: Record<string, string> = {},
): Promise<TestMachine> {
  return fleet.start(id, await serveApp(t, appOf(id)), env);
}

const WITHOUT_HINTS = { SESSION_ID_HINTS: 'false' };
const SESSION = { 'mcp-session-id': 'abc' };
const HINTED = { 'mcp-session-id': 'abc~m1' };

/** A body of unknown length, so that the request can't be replayed. */
function upload(
  machine: TestMachine,
  headers: Record<string, string>,
  path = '/rpc',
): Promise<Response> {
  const body = new Blob(['x'.repeat(10)]).stream();
  return fetch(machine.url + path, { method: 'POST', duplex: 'half', headers, body });
}

async function openSession(machine: TestMachine): Promise<void> {
  const opened = await fetch(`${machine.url}/open`, { method: 'POST' });
  assert.equal(opened.status, 200);
}

async function replayOf(machine: TestMachine, headers: Record<string, string>): Promise<string> {
  const response = await fetch(`${machine.url}/rpc`, { headers, redirect: 'manual' });
  return response.headers.get('fly-replay') ?? 'none';
}

/** Announcements of new sessions arrive a moment later. */
function untilRows(machine: TestMachine, count: number): Promise<void> {
  return until(async () => (await machine.rowCount()) === count);
}

async function assertUnavailable(response: Response): Promise<void> {
  assert.equal(response.status, 503);
  assert.equal(response.headers.get('retry-after'), '1');
  assert.doesNotMatch(await response.text(), /abc|m1|m2/);
}

describe('a Machine', () => {
  test('asks its peers for the owner of an unknown session', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    await openSession(m1);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
    await untilRows(m2, 1);
  });

  test('announces a new session to its peers, which know the owner after it stopped', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2', 'm3');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    const others = [
      await startMachine(t, fleet, 'm2', WITHOUT_HINTS),
      await startMachine(t, fleet, 'm3', WITHOUT_HINTS),
    ];
    await openSession(m1);
    for (const other of others) await untilRows(other, 1);
    await m1.sidecar.stop();
    for (const other of others) {
      assert.match(
        await replayOf(other, SESSION),
        /^instance=m1;state=fly-affinity;timeout=3s;fallback=prefer_self$/,
      );
    }
  });
});

describe('a request that cannot be replayed', () => {
  test('is forwarded to the owner with its complete body, in chunks and with a length', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await startMachine(t, fleet, 'm1');
    const m2 = await startMachine(t, fleet, 'm2');
    const size = 5_000_000;
    for (const length of [{}, { 'content-length': String(size) }]) {
      const req = http.request(`${m2.url}/rpc?a=%20b`, {
        method: 'PUT',
        headers: { ...HINTED, 'X-Mine': '1', host: 'example.com', ...length },
      });
      req.end(Buffer.alloc(size));
      const received = await receivedBy(req);
      assert.deepEqual(
        [received.at, received.method, received.url, received.bytes],
        ['m1', 'PUT', '/rpc?a=%20b', size],
      );
      assert.equal(received.headers['mcp-session-id'], 'abc');
      assert.deepEqual([received.headers.host, received.headers['x-mine']], ['example.com', '1']);
      assert.deepEqual(internalHeaders(received.headers), []);
    }
  });

  test('keeps the client address and ignores forged internal headers when it is forwarded', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await startMachine(t, fleet, 'm1');
    const m2 = await startMachine(t, fleet, 'm2');
    const forged = {
      'x-fly-affinity-target': '/admin',
      'x-fly-affinity-machine': 'm2',
      'x-fly-affinity-host': 'evil.example',
      'x-fly-affinity-refused': 'moved',
    };
    const response = await upload(m2, { ...HINTED, ...forged, 'x-forwarded-for': '192.0.2.1' });
    const received = (await response.json()) as ReceivedRequest;
    assert.deepEqual([received.at, received.url], ['m1', '/rpc']);
    assert.equal(received.headers.host, new URL(m2.url).host);
    assert.equal(received.headers['x-forwarded-for'], '192.0.2.1');
  });

  test('is forwarded with a URL without the session id', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const urls: string[] = [];
    const peer = await serveApp(t, (req, res) => {
      const isOfFleet = [STATUS_PATH, BINDINGS_PATH].includes(req.url ?? '');
      if (!isOfFleet) urls.push(req.url ?? '');
      req.resume().on('end', () => res.writeHead(isOfFleet ? 404 : 200).end('{}'));
    });
    fleet.lines.get('m1')?.leadTo(peer);
    const m2 = await startMachine(t, fleet, 'm2');
    await upload(m2, {}, '/rpc?session_id=abc~m1');
    assert.deepEqual(urls, ['/v1/forward']);
  });

  test('gets 100 Continue, and streams the response', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const closed = Promise.withResolvers<undefined>();
    const app = await serveApp(t, (req, res) => {
      res.on('close', () => closed.resolve(undefined));
      req.on('data', (chunk: Buffer) => res.write(`data: ${String(chunk)}\n\n`));
    });
    await fleet.start('m1', app);
    const m2 = await startMachine(t, fleet, 'm2');
    const client = await openClient(t, m2.sidecar.ports.public);
    client.send(
      'POST / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: abc~m1\r\nExpect: 100-continue\r\n' +
        'Transfer-Encoding: chunked\r\n\r\n',
    );
    await client.until((text) => text.startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
    for (const word of ['one', 'two']) {
      client.send(`3\r\n${word}\r\n`);
      await client.until((text) => text.includes(`data: ${word}\n\n`));
    }
    client.socket.destroy();
    await closed.promise;
  });
});

/** Headers of the hop between two sidecars. */
function internalHeaders(headers: http.IncomingHttpHeaders): string[] {
  return Object.keys(headers).filter((name) => name.startsWith('x-fly-affinity'));
}

async function receivedBy(req: http.ClientRequest): Promise<ReceivedRequest> {
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of res) text += String(chunk);
  return JSON.parse(text) as ReceivedRequest;
}

describe('returns 503 with Retry-After for a forward that fails', () => {
  test('because the session moved, and drops the copy of its binding', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2', 'm3');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    await openSession(m1);
    await untilRows(m2, 1);
    // m3 does not know m2, so m2 receives no announcement when the app of m3 mints the same id.
    const onlyM1 = fleet.list.split(',').filter((entry) => entry.startsWith('m1'));
    const m3 = await startMachine(t, fleet, 'm3', { ...WITHOUT_HINTS, FLEET: onlyM1.join() });
    assert.match(await replayOf(m3, SESSION), /^instance=m1;/);
    await openSession(m3);
    await until(async () => (await replayOf(m1, SESSION)).startsWith('instance=m3;'));
    await assertUnavailable(await upload(m2, SESSION));
    await untilRows(m2, 0);
  });

  test('because another Machine has the address of the owner, and keeps the binding', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2', 'm3');
    const m1 = await startMachine(t, fleet, 'm1');
    const m2 = await startMachine(t, fleet, 'm2');
    const m3 = await startMachine(t, fleet, 'm3');
    await openSession(m1);
    await untilRows(m2, 1);
    fleet.lines.get('m1')?.leadTo(m3.sidecar.ports.peer);
    await assertUnavailable(await upload(m2, HINTED));
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
    assert.equal(await m2.rowCount(), 1);
  });

  test('because the owner does not know the forwarding Machine', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await startMachine(t, fleet, 'm1', { FLEET: 'm9@127.0.0.9:9' });
    const m2 = await startMachine(t, fleet, 'm2');
    await assertUnavailable(await upload(m2, HINTED));
    assert.match(await replayOf(m2, HINTED), /^instance=m1;/);
  });

  test('because the owner refuses connections, and keeps the binding', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    await openSession(m1);
    await untilRows(m2, 1);
    await m1.sidecar.stop();
    fleet.lines.get('m1')?.refuse();
    await assertUnavailable(await upload(m2, SESSION));
    assert.equal(await m2.rowCount(), 1);
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
  });

  test('because no directory lists the owner', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m2 = await startMachine(t, fleet, 'm2');
    await assertUnavailable(await upload(m2, { 'mcp-session-id': 'abc~m7' }));
  });
});

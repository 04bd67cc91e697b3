/** Whole sidecars that ask, tell and forward to each other over their real peer listeners. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage, type RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { BINDINGS_PATH } from '../../src/fleet/join/messages.ts';
import { STATUS_PATH } from '../../src/fleet/messages.ts';
import { until } from '../fleet/support.ts';
import { openFleet, type TestFleet, type TestMachine } from '../support/fleet.ts';
import { openRawClient } from '../support/raw.ts';
import { serveApp } from '../support/sidecar.ts';

/** What an app has got. */
interface Got {
  readonly at: string;
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly bytes: number;
}

/** Mints `abc` for whoever opens a session, and tells what else it gets. */
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
      res.end(JSON.stringify({ at, method, url, headers, bytes } satisfies Got));
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

/** Its length is not known, so it can't be replayed. */
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
  const answer = await fetch(`${machine.url}/rpc`, { headers, redirect: 'manual' });
  return answer.headers.get('fly-replay') ?? 'none';
}

/** Machines tell each other of new sessions a moment later. */
function untilRows(machine: TestMachine, count: number): Promise<void> {
  return until(async () => (await machine.rowCount()) === count);
}

async function isGivenUpFor(now: Response): Promise<void> {
  assert.equal(now.status, 503);
  assert.equal(now.headers.get('retry-after'), '1');
  assert.doesNotMatch(await now.text(), /abc|m1|m2/);
}

describe('a Machine', () => {
  test('asks the others for the owner of a session that it has not heard of', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    await openSession(m1);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
    await untilRows(m2, 1);
  });

  test('tells the others of a new session, who know it though it is not there any more', async (t) => {
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

describe('a request that can not be replayed', () => {
  test('is forwarded to the owner with all of its body, in chunks and with a length', async (t) => {
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
      const got = await gotBy(req);
      assert.deepEqual(
        [got.at, got.method, got.url, got.bytes],
        ['m1', 'PUT', '/rpc?a=%20b', size],
      );
      assert.equal(got.headers['mcp-session-id'], 'abc');
      assert.deepEqual([got.headers.host, got.headers['x-mine']], ['example.com', '1']);
      assert.deepEqual(ours(got.headers), []);
    }
  });

  test('keeps its client when it is forwarded: what was forged of our headers is not believed', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await startMachine(t, fleet, 'm1');
    const m2 = await startMachine(t, fleet, 'm2');
    const forged = {
      'x-fly-affinity-target': '/admin',
      'x-fly-affinity-machine': 'm2',
      'x-fly-affinity-host': 'evil.example',
      'x-fly-affinity-refused': 'moved',
    };
    const answer = await upload(m2, { ...HINTED, ...forged, 'x-forwarded-for': '192.0.2.1' });
    const got = (await answer.json()) as Got;
    assert.deepEqual([got.at, got.url], ['m1', '/rpc']);
    assert.equal(got.headers.host, new URL(m2.url).host);
    assert.equal(got.headers['x-forwarded-for'], '192.0.2.1');
  });

  test('has no id in the URL by which it is forwarded', async (t) => {
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

  test('is told to go on, and brings back a stream as it comes', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const left = Promise.withResolvers<undefined>();
    const app = await serveApp(t, (req, res) => {
      res.on('close', () => left.resolve(undefined));
      req.on('data', (chunk: Buffer) => res.write(`data: ${String(chunk)}\n\n`));
    });
    await fleet.start('m1', app);
    const m2 = await startMachine(t, fleet, 'm2');
    const client = await openRawClient(m2.sidecar.ports.public);
    t.after(() => client.socket.destroy());
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
    await left.promise;
  });
});

/** Headers that belong to the hop between two sidecars. */
function ours(headers: http.IncomingHttpHeaders): string[] {
  return Object.keys(headers).filter((name) => name.startsWith('x-fly-affinity'));
}

async function gotBy(req: http.ClientRequest): Promise<Got> {
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of res) text += String(chunk);
  return JSON.parse(text) as Got;
}

describe('a forward that its owner does not take is a 503 with Retry-After', () => {
  test('if the session has moved, and the copy of its binding is dropped', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2', 'm3');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    await openSession(m1);
    await untilRows(m2, 1);
    // m3 does not know m2, so that m2 does not hear that the app of m3 has minted the same id.
    const onlyM1 = fleet.list.split(',').filter((entry) => entry.startsWith('m1'));
    const m3 = await startMachine(t, fleet, 'm3', { ...WITHOUT_HINTS, FLEET: onlyM1.join() });
    assert.match(await replayOf(m3, SESSION), /^instance=m1;/);
    await openSession(m3);
    await until(async () => (await replayOf(m1, SESSION)).startsWith('instance=m3;'));
    await isGivenUpFor(await upload(m2, SESSION));
    await untilRows(m2, 0);
  });

  test('if another Machine has its address now, and the binding is untouched', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2', 'm3');
    const m1 = await startMachine(t, fleet, 'm1');
    const m2 = await startMachine(t, fleet, 'm2');
    const m3 = await startMachine(t, fleet, 'm3');
    await openSession(m1);
    await untilRows(m2, 1);
    fleet.lines.get('m1')?.leadTo(m3.sidecar.ports.peer);
    await isGivenUpFor(await upload(m2, HINTED));
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
    assert.equal(await m2.rowCount(), 1);
  });

  test('if the owner does not know the Machine that forwards', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    await startMachine(t, fleet, 'm1', { FLEET: 'm9@127.0.0.9:9' });
    const m2 = await startMachine(t, fleet, 'm2');
    await isGivenUpFor(await upload(m2, HINTED));
    assert.match(await replayOf(m2, HINTED), /^instance=m1;/);
  });

  test('if the owner is not there, and the binding is untouched', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m1 = await startMachine(t, fleet, 'm1', WITHOUT_HINTS);
    const m2 = await startMachine(t, fleet, 'm2', WITHOUT_HINTS);
    await openSession(m1);
    await untilRows(m2, 1);
    await m1.sidecar.stop();
    fleet.lines.get('m1')?.refuse();
    await isGivenUpFor(await upload(m2, SESSION));
    assert.equal(await m2.rowCount(), 1);
    assert.match(await replayOf(m2, SESSION), /^instance=m1;/);
  });

  test('if nobody lists the owner', async (t) => {
    const fleet = await openFleet(t, 'm1', 'm2');
    const m2 = await startMachine(t, fleet, 'm2');
    await isGivenUpFor(await upload(m2, { 'mcp-session-id': 'abc~m7' }));
  });
});

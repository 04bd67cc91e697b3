/**
 * An owner whose process hangs while its kernel still holds the connections: a forward to it fails
 * fast, and the status says whether the client may retry. The sidecar waits for an owner whose app is
 * slow. A forward that never ends hits the time limit of the test.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { lineWithMessage, linesOf, start } from '../../cli/program.ts';
import { openFleet, type TestFleet, type TestMachine } from '../../support/fleet.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { serveApp } from '../../support/sidecar.ts';

/** Many times longer than a client should wait. */
const LIMIT = { timeout: 30_000 };

/** A session of the Machine `m1`, already replayed once, so that it is forwarded. */
const SESSION = {
  'mcp-session-id': 'abc~m1',
  'fly-replay-src': 'instance=m3;t=1;state=fly-affinity',
};
const UPGRADE = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };

type RequestName = 'GET' | 'POST of a length' | 'POST in chunks' | 'upgrade';

/** Sends one request to the forwarding Machine. Returns the status, and whether `Retry-After` is set. */
async function send(machine: TestMachine, name: RequestName): Promise<readonly unknown[]> {
  const method = name.startsWith('POST') ? 'POST' : 'GET';
  const headers = {
    ...SESSION,
    ...(name === 'upgrade' && { ...UPGRADE, 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' }),
    ...(name === 'POST of a length' && { 'content-length': 5 }),
    ...(name === 'POST in chunks' && { 'transfer-encoding': 'chunked' }),
  };
  const request = http.request(`${machine.url}/rpc`, { method, headers, agent: false });
  request.end(method === 'POST' ? 'hello' : undefined);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  await text(response);
  const retryAfter = Number(response.headers['retry-after'] ?? NaN);
  return [response.statusCode, retryAfter > 0 && retryAfter < 60];
}

const MAY_RETRY = [503, true];
const MAY_NOT_RETRY = [504, false];

/** `m2`, which forwards to the address of `m1`. */
async function startForwarder(
  t: TestContext,
  fleet: TestFleet,
  env: Readonly<Record<string, string>> = {},
): Promise<TestMachine> {
  const otherApp = await serveApp(t, () => assert.fail('the request is for another app'));
  return fleet.start('m2', otherApp, env);
}

/** Accepts connections and reads bytes, and never responds. */
const serveWithoutResponse = (t: TestContext): Promise<number> => serveRawApp(t, () => undefined);

const stop = (child: ChildProcess): void => void child.kill('SIGSTOP');

/** A listener whose accept queue is full, so that new connections never open. */
async function serveFullBacklog(t: TestContext): Promise<number> {
  const listen =
    'const s = require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => console.log(s.address().port))';
  const child = spawn(process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [printed] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(String(printed));
  stop(child);
  for (let taken = 0; taken <= 1; taken += 1) {
    const socket = connect(port, '127.0.0.1');
    t.after(() => socket.destroy());
    await once(socket, 'connect');
  }
  return port;
}

/** The sidecar of `m1` in a process of its own, in front of that app. */
async function startOwner(
  t: TestContext,
  fleet: TestFleet,
  appPort: number,
): Promise<ChildProcess> {
  const env = {
    FLY_MACHINE_ID: 'm1',
    FLEET: fleet.list,
    UPSTREAM_URL: `http://127.0.0.1:${appPort}`,
  };
  const child = start(t, { args: ['serve'], env });
  const serving = await lineWithMessage(linesOf(child), 'serving');
  const { peer } = serving.ports as { readonly peer: number };
  fleet.lines.get('m1')?.leadTo(peer);
  return child;
}

/** The tests wait most of the time. */
const CONCURRENT = { concurrency: 4 };

describe('a forward fails fast', CONCURRENT, () => {
  type Owner = (t: TestContext, fleet: TestFleet) => Promise<void>;
  const at =
    (serve: (t: TestContext) => Promise<number>): Owner =>
    async (t, fleet) =>
      fleet.lines.get('m1')?.leadTo(await serve(t));

  const stopped: Owner = async (t, fleet) => {
    const app = await serveApp(t, (_req, res) => res.end());
    stop(await startOwner(t, fleet, app));
  };

  // prettier-ignore
  const rows: readonly (readonly [claim: string, owner: Owner, request: RequestName, outcome: readonly unknown[]])[] = [
    ['to an owner that accepts the request and does not respond', at(serveWithoutResponse), 'GET', MAY_RETRY],
    ['to an owner that accepts the request and does not respond', at(serveWithoutResponse), 'upgrade', MAY_RETRY],
    ['to an owner that accepts the request and does not respond', at(serveWithoutResponse), 'POST of a length', MAY_NOT_RETRY],
    ['to an owner that accepts the request and does not respond', at(serveWithoutResponse), 'POST in chunks', MAY_NOT_RETRY],
    ['to an owner whose process is stopped', stopped, 'GET', MAY_RETRY],
    ['to an owner whose process is stopped', stopped, 'upgrade', MAY_RETRY],
    ['to an owner whose process is stopped', stopped, 'POST of a length', MAY_NOT_RETRY],
    ['to an owner whose process is stopped', stopped, 'POST in chunks', MAY_NOT_RETRY],
  ];
  for (const [claim, owner, request, outcome] of rows) {
    test(`${claim}: ${request}`, LIMIT, async (t) => {
      const fleet = await openFleet(t, 'm1', 'm2');
      // The owner responds at first: `m2` does not know yet that it hangs.
      const respondingPort = await serveApp(t, (_req, res) => res.writeHead(404).end());
      fleet.lines.get('m1')?.leadTo(respondingPort);
      const m2 = await startForwarder(t, fleet);
      await owner(t, fleet);
      assert.deepEqual(await send(m2, request), outcome);
    });
  }

  for (const request of ['GET', 'POST of a length', 'POST in chunks'] as const) {
    test(
      `to an owner that accepts no connection, so that nothing is delivered: ${request}`,
      LIMIT,
      async (t) => {
        const FLEET = `m1@127.0.0.1:${await serveFullBacklog(t)}`;
        const m2 = await startForwarder(t, await openFleet(t, 'm2'), { FLEET });
        assert.deepEqual(await send(m2, request), MAY_RETRY);
      },
    );
  }

  for (const [request, outcome] of [
    ['GET', MAY_RETRY],
    ['POST of a length', MAY_NOT_RETRY],
  ] as const) {
    test(`to an owner that is stopped while its app works: ${request}`, LIMIT, async (t) => {
      const arrived = Promise.withResolvers<undefined>();
      const app = await serveApp(t, () => arrived.resolve(undefined));
      const fleet = await openFleet(t, 'm1', 'm2');
      const owner = await startOwner(t, fleet, app);
      const m2 = await startForwarder(t, fleet);
      const sent = send(m2, request);
      await arrived.promise;
      stop(owner);
      assert.deepEqual(await sent, outcome);
    });
  }
});

test('a forward to a stopped owner succeeds once the process continues', LIMIT, async (t) => {
  const app = await serveApp(t, (req, res) => req.resume().on('end', () => res.end()));
  const fleet = await openFleet(t, 'm1', 'm2');
  const owner = await startOwner(t, fleet, app);
  const m2 = await startForwarder(t, fleet);
  stop(owner);
  assert.deepEqual(await send(m2, 'GET'), MAY_RETRY);
  owner.kill('SIGCONT');
  let outcome = await send(m2, 'POST of a length');
  while (outcome[0] !== 200) outcome = await send(m2, 'POST of a length');
});

/** Longer than the time after which an owner counts as unresponsive. */
const SLOW_MS = 8_000;

test(
  `waits for an owner whose app takes ${SLOW_MS} ms, while its sidecar responds`,
  LIMIT,
  async (t) => {
    const app = await serveApp(t, (req, res) => {
      req.resume();
      const timer = setTimeout(() => res.end('late'), SLOW_MS);
      res.on('close', () => clearTimeout(timer));
    });
    const fleet = await openFleet(t, 'm1', 'm2');
    await fleet.start('m1', app);
    const m2 = await startForwarder(t, fleet);
    const requests = ['GET', 'POST of a length', 'POST in chunks'] as const;
    const outcomes = await Promise.all(requests.map((request) => send(m2, request)));
    assert.deepEqual(
      outcomes,
      requests.map(() => [200, false]),
    );
  },
);

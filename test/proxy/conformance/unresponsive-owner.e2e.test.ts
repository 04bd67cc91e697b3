/**
 * An owner whose process stands still while its kernel keeps its connections: a forward to it ends
 * soon, and says whether the request may be sent again. An owner whose app is slow is waited for.
 * Whoever waits without end is found by the time limit of the test.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test, type TestContext } from 'node:test';
import { lineThatSays, linesOf, start } from '../../cli/program.ts';
import { openFleet, type TestFleet, type TestMachine } from '../../support/fleet.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { serveApp } from '../../support/sidecar.ts';

/** Many times what a client should wait for. */
const LIMIT = { timeout: 30_000 };

/** A session of the Machine `m1`, already replayed once, so that it is forwarded. */
const SESSION = {
  'mcp-session-id': 'abc~m1',
  'fly-replay-src': 'instance=m3;t=1;state=fly-affinity',
};
const UPGRADE = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13' };

type RequestName = 'GET' | 'POST of a length' | 'POST in chunks' | 'upgrade';

/** Sends one request to the Machine that forwards it; tells the status and `Retry-After`. */
async function ask(machine: TestMachine, name: RequestName): Promise<readonly unknown[]> {
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

const MAY_BE_REPEATED = [503, true];
const WAS_DELIVERED = [504, false];

/** `m2`, which forwards to whatever is at the address of `m1`. */
async function startForwarder(
  t: TestContext,
  fleet: TestFleet,
  env: Readonly<Record<string, string>> = {},
): Promise<TestMachine> {
  const nowhere = await serveApp(t, () => assert.fail('the request was meant for another app'));
  return fleet.start('m2', nowhere, env);
}

/** Takes connections and bytes, and never says a word. */
const serveSilence = (t: TestContext): Promise<number> => serveRawApp(t, () => undefined);

const stop = (child: ChildProcess): void => void child.kill('SIGSTOP');

/** Its kernel has as many connections for it as it keeps, so that new ones are never taken. */
async function serveNobody(t: TestContext): Promise<number> {
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

/** The sidecar `m1` as a process of its own, before that app. */
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
  const serving = await lineThatSays(linesOf(child), 'serving');
  const { peer } = serving.ports as { readonly peer: number };
  fleet.lines.get('m1')?.leadTo(peer);
  return child;
}

/** They wait, most of the time. */
const TOGETHER = { concurrency: 4 };

describe('a forward ends soon', TOGETHER, () => {
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
    ['to an owner that takes it and is silent', at(serveSilence), 'GET', MAY_BE_REPEATED],
    ['to an owner that takes it and is silent', at(serveSilence), 'upgrade', MAY_BE_REPEATED],
    ['to an owner that takes it and is silent', at(serveSilence), 'POST of a length', WAS_DELIVERED],
    ['to an owner that takes it and is silent', at(serveSilence), 'POST in chunks', WAS_DELIVERED],
    ['to an owner whose process is stopped', stopped, 'GET', MAY_BE_REPEATED],
    ['to an owner whose process is stopped', stopped, 'upgrade', MAY_BE_REPEATED],
    ['to an owner whose process is stopped', stopped, 'POST of a length', WAS_DELIVERED],
    ['to an owner whose process is stopped', stopped, 'POST in chunks', WAS_DELIVERED],
  ];
  for (const [claim, owner, request, outcome] of rows) {
    test(`${claim}: ${request}`, LIMIT, async (t) => {
      const fleet = await openFleet(t, 'm1', 'm2');
      // Until a moment ago it has answered: it is not known yet that it stands still.
      const answering = await serveApp(t, (_req, res) => res.writeHead(404).end());
      fleet.lines.get('m1')?.leadTo(answering);
      const m2 = await startForwarder(t, fleet);
      await owner(t, fleet);
      assert.deepEqual(await ask(m2, request), outcome);
    });
  }

  for (const request of ['GET', 'POST of a length', 'POST in chunks'] as const) {
    test(
      `to an owner that takes no connection, where nothing is delivered: ${request}`,
      LIMIT,
      async (t) => {
        const FLEET = `m1@127.0.0.1:${await serveNobody(t)}`;
        const m2 = await startForwarder(t, await openFleet(t, 'm2'), { FLEET });
        assert.deepEqual(await ask(m2, request), MAY_BE_REPEATED);
      },
    );
  }

  for (const [request, outcome] of [
    ['GET', MAY_BE_REPEATED],
    ['POST of a length', WAS_DELIVERED],
  ] as const) {
    test(`to an owner that is stopped while its app works: ${request}`, LIMIT, async (t) => {
      const arrived = Promise.withResolvers<undefined>();
      const app = await serveApp(t, () => arrived.resolve(undefined));
      const fleet = await openFleet(t, 'm1', 'm2');
      const owner = await startOwner(t, fleet, app);
      const m2 = await startForwarder(t, fleet);
      const asked = ask(m2, request);
      await arrived.promise;
      stop(owner);
      assert.deepEqual(await asked, outcome);
    });
  }
});

test('a forward to an owner that was stopped is served once it goes on', LIMIT, async (t) => {
  const app = await serveApp(t, (req, res) => req.resume().on('end', () => res.end()));
  const fleet = await openFleet(t, 'm1', 'm2');
  const owner = await startOwner(t, fleet, app);
  const m2 = await startForwarder(t, fleet);
  stop(owner);
  assert.deepEqual(await ask(m2, 'GET'), MAY_BE_REPEATED);
  owner.kill('SIGCONT');
  let outcome = await ask(m2, 'POST of a length');
  while (outcome[0] !== 200) outcome = await ask(m2, 'POST of a length');
});

/** Longer than any owner may be silent. */
const SLOW_MS = 8_000;

test(
  `an owner whose app takes ${SLOW_MS} ms is waited for while its sidecar answers`,
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
    const outcomes = await Promise.all(requests.map((request) => ask(m2, request)));
    assert.deepEqual(
      outcomes,
      requests.map(() => [200, false]),
    );
  },
);

/** `fly-affinity check` against servers in this process. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { test, type TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import type { CheckReport } from '../../src/cli/check/report.ts';
import { execute } from '../../src/cli/check.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import { startTwoMachines } from '../probe/machines.ts';
import { freePort } from '../support/free-port.ts';
import { serveApp } from '../support/sidecar.ts';
import { runInProcess, type Ran, type RunOptions } from './in-process.ts';

/** `POST /` opens a session, and `GET /` with its cookie counts in it; any other is a 404. */
function createCounter(): RequestListener {
  const counts = new Map<string, number>();
  return (request, response) => {
    const id = idOf(request);
    const count = counts.get(id);
    if (request.method === 'POST') {
      const minted = `s3cr3t-${Math.random()}`;
      counts.set(minted, 0);
      response.setHeader('set-cookie', `sid=${minted}`).end();
    } else if (count === undefined) response.writeHead(404).end(`unknown session ${id}`);
    else {
      counts.set(id, count + 1);
      response.end(String(count + 1));
    }
  };
}

function idOf({ headers }: IncomingMessage): string {
  return /sid=([^;]+)/.exec(headers.cookie ?? '')?.[1] ?? '';
}

const OWN_REQUESTS = ['--open', 'POST /', '--request', 'GET /'];

/** No command of these tests prints a session id or a header. */
async function check(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const ran = await runInProcess(execute, args, options);
  assert.doesNotMatch(ran.output + ran.errors, /s3cr3t/);
  return ran;
}

async function checkAsJson(
  args: readonly string[],
  options: RunOptions = {},
): Promise<{ readonly code: number; readonly report: CheckReport }> {
  const { code, output } = await check([...args, '--json'], options);
  return { code, report: JSON.parse(output) as CheckReport };
}

const originOf = (port: number): string => `http://127.0.0.1:${port}`;

test('calls that meet another Machine are counted as lost, with what the client is told', async (t) => {
  const { inTurn } = await startTwoMachines(t, { createApp: createCounter });
  const args = [inTurn.origin, ...OWN_REQUESTS, '--sessions', '1', '--calls', '4'];
  const { code, output, errors } = await check(args);
  assert.deepEqual([code, errors], [1, '']);
  const expected = `Checking ${inTurn.origin}
Sends these first, until one of them opens a session:
  GET /
  POST /
Found: POST /
Sends now: 1 session, and up to 6 calls in each, each on a new connection,
  4 at a time, none later than 60 s after the start; then it ends the sessions.

Sessions  1 opened
Calls     4 made, 2 lost (50%)

How clients are told:
  2 times: 404 unknown session (id)
    clients open a new session; what the old one held is gone

Calls, and the time from connecting to the response if not lost:
  sent                          calls   lost     median      worst
  where Fly Proxy sends them        4      2       TIME       TIME

Sessions are lost: 2 of 4 calls did not find their session. They met another Machine, or
the app has forgotten it.
A sidecar on each Machine sends them to the right one: fly-affinity init puts it there.
`;
  assert.equal(output.replace(/ +[\d.]+ ms +[\d.]+ ms/g, '       TIME       TIME'), expected);
});

test('an app that has its sessions loses none, and a doubt is left', async (t) => {
  const { single } = await startTwoMachines(t, { createApp: createCounter });
  const { code, output } = await check([single.origin, ...OWN_REQUESTS]);
  assert.equal(code, 0);
  assert.match(output, /^Sessions {2}10 opened\nCalls {5}50 made, 0 lost\n/m);
  assert.match(output, /No session was lost\. But nothing shows .* more than one Machine/);
});

test('--json is the only text on standard output, and the plan goes to standard error', async (t) => {
  const { inTurn } = await startTwoMachines(t, { createApp: createCounter });
  const args = [inTurn.origin, ...OWN_REQUESTS, '--sessions', '1', '--calls', '2', '--json'];
  const { code, output, errors } = await check(args);
  const { latency, ...report } = JSON.parse(output) as CheckReport;
  assert.deepEqual(
    [code, latency.map(({ sentTo, calls, lost }) => [sentTo, calls, lost])],
    [1, [['any', 2, 1]]],
  );
  assert.deepEqual(report, {
    ...{ url: inTurn.origin, protocol: null, where: 'POST /', isCutShort: false, verdict: 'lost' },
    problems: [],
    sessions: { opened: 1, refused: 0, lost: 1 },
    calls: { made: 2, lost: 1, failed: 0 },
    told: [{ how: 'unknown-session', why: '404 unknown session (id)', isLost: true, count: 1 }],
    hopMs: null,
    machines: [],
  });
  assert.match(errors, /^Checking .*\nSends these first[^]*Sends now/);
});

/** Two Machines behind a Fly Proxy that always honours the client's preference. */
function createTwoMachines(machines: readonly [string, string], seen: string[]): RequestListener {
  const apps = new Map(machines.map((machine) => [machine, createCounter()]));
  return (request, response) => {
    const preferred = String(request.headers['fly-prefer-instance-id'] ?? machines[0]);
    seen.push(preferred);
    apps.get(preferred)?.(request, response);
  };
}

test('with --machine each call asks for another Machine than the one before', async (t) => {
  const seen: string[] = [];
  const app = createTwoMachines(['a1', 'b2'], seen);
  const port = await serveApp(t, app);
  const { code, report } = await checkAsJson([
    ...[originOf(port), ...OWN_REQUESTS, '--sessions', '1', '--calls', '4'],
    ...['--machine', 'a1', '--machine', 'b2'],
  ]);
  assert.equal(code, 1);
  // Behind the request that finds out whether the app responds, and the session of the detection.
  assert.deepEqual(seen.slice(2), ['a1', 'b2', 'a1', 'b2', 'a1']);
  const rows = report.latency.map(({ sentTo, calls, lost }) => [sentTo, calls, lost]);
  assert.deepEqual(rows, [
    ['own', 2, 0],
    ['other', 2, 2],
  ]);
});

/** The app of two Machines behind a sidecar: any Machine leads to the session, and the id names its owner. */
function createBehindSidecar(machines: readonly [string, string], seen: string[]): RequestListener {
  const app = createCounter();
  let opened = 0;
  return (request, response) => {
    seen.push(`${request.method} ${String(request.headers['fly-prefer-instance-id'])}`);
    const end = response.setHeader.bind(response);
    response.setHeader = (name, value) => end(name, `${String(value)}~${machines[opened++ % 2]}`);
    request.headers.cookie = request.headers.cookie?.replace(/~.*/, '');
    app(request, response);
  };
}

test('where owner hints name two Machines, two more calls of each session go to its own and to the other', async (t) => {
  const machines = ['148e21ea7e5689', '1781f5eb64d118'] as const;
  const seen: string[] = [];
  const port = await serveApp(t, createBehindSidecar(machines, seen));
  const { code, output } = await check([
    ...[originOf(port), ...OWN_REQUESTS, '--sessions', '2', '--calls', '1'],
  ]);
  assert.equal(code, 0);
  assert.match(output, /: 148e21ea7e5689, 1781f5eb64d118\n/);
  assert.match(
    output,
    /^ {2}where Fly Proxy sends them +2 +0 .*\n.* Machine +2 +0 .*\n.* Machine +2 +0 /m,
  );
  const steered = seen.filter((line) => !line.endsWith('undefined')).sort();
  assert.deepEqual(
    steered,
    machines.flatMap((machine) => [`GET ${machine}`, `GET ${machine}`]),
  );
});

/** Its calls get this response. */
function answering(respond: (response: ServerResponse) => void): RequestListener {
  const counter = createCounter();
  return (request, response) => {
    if (idOf(request) === '') counter(request, response);
    else respond(response);
  };
}

for (const { claim, respond, calls, verdict } of [
  {
    claim: 'an app that asks for fewer requests',
    respond: (res: ServerResponse) => res.writeHead(429).end(),
    calls: { made: 4, lost: 0, failed: 4 },
    verdict: 'failed',
  },
  {
    claim: 'an app that is not available',
    respond: (res: ServerResponse) => res.writeHead(503).end(),
    calls: { made: 4, lost: 0, failed: 4 },
    verdict: 'failed',
  },
  {
    claim: 'an app that breaks connections',
    respond: (res: ServerResponse) => res.destroy(),
    calls: { made: 4, lost: 0, failed: 4 },
    verdict: 'failed',
  },
  {
    claim: 'an error of the app',
    respond: (res: ServerResponse) => res.writeHead(400).end('No valid session'),
    calls: { made: 4, lost: 4, failed: 0 },
    verdict: 'lost',
  },
  {
    claim: 'an app that reveals a session header only later',
    respond: (res: ServerResponse) => res.setHeader('mcp-session-id', 's3cr3t-2').end(),
    calls: { made: 4, lost: 0, failed: 0 },
    verdict: 'kept',
  },
]) {
  test(`${claim}: ${verdict}`, async (t) => {
    const port = await serveApp(t, answering(respond));
    const args = [originOf(port), ...OWN_REQUESTS, '--sessions', '2', '--calls', '2'];
    const { code, report } = await checkAsJson(args);
    assert.deepEqual(
      [code, report.calls, report.verdict],
      [verdict === 'kept' ? 0 : 1, calls, verdict],
    );
    assert.doesNotMatch((await check(args)).output, /undefined|NaN/);
  });
}

test('an app of WebSockets is recognised, and rooms in them are left to try', async (t) => {
  const createApp = (): Server => {
    const server = createServer((_, res) => void res.writeHead(404).end());
    new WebSocketServer({ server });
    return server;
  };
  const { single } = await startTwoMachines(t, { createApp });
  const found = await check([single.origin]);
  assert.equal(found.code, 1);
  assert.match(found.output, /\n {2}GET \/ \(WebSocket\): accepted, and a WebSocket stays on its/);
  const rooms = await check([single.origin, '--request', 'WS /{session}']);
  assert.equal(rooms.code, 64);
  assert.match(rooms.errors, /no response to a WebSocket names its Machine: use fly-affinity try/);
});

test('an app that opens no session, keeps none, or does not respond is told apart', async (t) => {
  const refusing = await serveApp(t, (_, res) => void res.writeHead(500).end('no'));
  const args = ['--request', 'GET /x', '--header', 'cookie: s3cr3t'];
  const refused = await check([originOf(refusing), ...args]);
  assert.equal(refused.code, 1);
  assert.match(refused.output, /No session was opened:\n {2}the app answers 500 no\n[^]*--path/);
  const unknown = await check([originOf(refusing)]);
  assert.equal(unknown.code, 1);
  assert.match(unknown.output, /No session was opened:\n {2}POST \/mcp: 500 no\n/);
  const stateless = await serveApp(t, (_, res) => void res.end('hello'));
  const kept = await check([originOf(stateless), ...args]);
  assert.equal(kept.code, 0);
  assert.match(kept.output, /keeps no session here/);
  const gone = await check([originOf(await freePort())]);
  assert.equal(gone.code, 1);
  assert.match(gone.output, /GET \/: no connection \(ECONNREFUSED\)\n\nThe app does not respond/);
});

test('where every call is lost, the calls themselves may be at fault', async (t) => {
  const port = await serveApp(
    t,
    answering((response) => response.writeHead(404).end()),
  );
  const { code, output } = await check([originOf(port), ...OWN_REQUESTS]);
  assert.equal(code, 1);
  assert.match(output, /As no call found it: do the calls carry the session at all/);
});

test('sessions that the app refuses are counted, and make the check fail', async (t) => {
  const counter = createCounter();
  let opened = 0;
  const port = await serveApp(t, (request, response) => {
    if (request.method === 'POST' && (opened += 1) > 3) response.writeHead(503).end('full');
    else counter(request, response);
  });
  const args = [originOf(port), ...OWN_REQUESTS, '--sessions', '4', '--calls', '1'];
  const { code, output } = await check(args);
  assert.equal(code, 1);
  assert.match(output, /^Sessions {2}2 opened, 2 not opened\nCalls {5}2 made, 0 lost\n/m);
  assert.match(output, /Sessions that were not opened:\n {2}the app answers 503 full\n/);
});

/** Sends the signal when the app receives the third call. */
async function checkUntilSignal(t: TestContext, isRepeated: boolean): Promise<Ran> {
  const events = new EventEmitter();
  const counter = createCounter();
  let calls = 0;
  const port = await serveApp(t, (request, response) => {
    if (idOf(request) !== '' && (calls += 1) === 3) {
      events.emit('SIGINT', 'SIGINT');
      if (isRepeated) assert.equal(events.listenerCount('SIGINT'), 0);
    }
    counter(request, response);
  });
  const args = [originOf(port), ...OWN_REQUESTS, '--sessions', '1', '--calls', '100'];
  return check(args, { events });
}

test('a signal ends the check after what is in progress, with what it has found', async (t) => {
  const { code, output } = await checkUntilSignal(t, false);
  assert.equal(code, 130);
  assert.match(output, /^Calls {5}3 made, 0 lost\n\nThe check ended early/m);
});

test('after the first signal, the next ends the process', async (t) => {
  const { code } = await checkUntilSignal(t, true);
  assert.equal(code, 130);
});

test('no request is made after the time is up', async (t) => {
  const counter = createCounter();
  let calls = 0;
  const timers: (() => void)[] = [];
  const port = await serveApp(t, (request, response) => {
    if (idOf(request) !== '' && (calls += 1) === 2) timers.forEach((end) => end());
    counter(request, response);
  });
  const { code, report } = await checkAsJson(
    [originOf(port), ...OWN_REQUESTS, '--sessions', '1', '--calls', '9', '--timeout', '7s'],
    { clock: clockThatKeeps(7_000, timers) },
  );
  assert.deepEqual([code, report.calls.made, report.isCutShort], [0, 2, true]);
});

/** Keeps the timers of that time, in ms, for the test to fire. */
function clockThatKeeps(keptMs: number, timers: (() => void)[]): Clock {
  return {
    ...systemClock,
    after: (ms, fn) => {
      if (ms !== keptMs) return systemClock.after(ms, fn);
      timers.push(fn);
      return () => undefined;
    },
  };
}

test('an app that does not respond ends the check when the time is up', async (t) => {
  const timers: (() => void)[] = [];
  const port = await serveApp(t, () => timers.forEach((end) => end()));
  const clock = clockThatKeeps(7_000, timers);
  // The time that is left for what is in progress is over at once.
  const after: Clock['after'] = (ms, fn) => clock.after(ms === 5_000 ? 0 : ms, fn);
  const args = [originOf(port), '--timeout', '7s'];
  const { code, output } = await check(args, { clock: { ...clock, after } });
  assert.equal(code, 1);
  assert.match(
    output,
    /\nThe check ended early.*\n\nNo session .*:\n {2}GET \/: no response in time\n/,
  );
});

for (const [claim, args] of Object.entries({
  'no URL': [],
  'two URLs': ['http://a', 'http://b'],
  'a URL with a password': ['http://user:s3cr3t@a'],
  'another scheme': ['ftp://a'],
  'a host alone': ['my-app.fly.dev'],
  'no session': ['http://a', '--sessions', '0'],
  'too many calls': ['http://a', '--calls', '101'],
  'no time': ['http://a', '--timeout', '0'],
  'a single Machine': ['http://a', '--machine', 'b2'],
  'one Machine twice': ['http://a', '--machine', 'b2', '--machine', 'b2'],
  'a path twice': ['http://a/x', '--path', '/y'],
  'a header that is none': ['http://a', '--header', 's3cr3t'],
  'an unknown option': ['http://a', '--odd'],
})) {
  test(`${claim} is a mistake, and nothing is sent`, async () => {
    const { code, output, errors } = await check(args);
    assert.deepEqual([code, output], [64, '']);
    assert.match(errors, /^fly-affinity check: [^\n]+ See fly-affinity check --help\.\n$/);
  });
}

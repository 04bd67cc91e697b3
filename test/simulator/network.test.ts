import assert from 'node:assert/strict';
import { promises as dns } from 'node:dns';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { startDnsServer } from '../../src/simulator/dns.ts';
import { parseReplayFailure } from '../../src/fly.ts';
import { createNetwork, type NetworkFaults } from '../../src/simulator/network.ts';
import { createPrivateNetwork } from '../../src/simulator/private-network.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import {
  sendRequest,
  machineId,
  naming,
  replaying,
  startMachine,
  startTestEdge,
  type ScriptedMachine,
  type TestEdge,
} from './support.ts';

const [A, B, C] = [machineId('a1'), machineId('b2'), machineId('c3')];

interface Place {
  readonly clock: TestClock;
  readonly network: NetworkFaults;
  readonly edge: TestEdge;
}

async function startPlace(t: TestContext, machines: readonly ScriptedMachine[]): Promise<Place> {
  const clock = createTestClock();
  const network = createNetwork(() => [], clock);
  const edge = await startTestEdge(t, machines, {
    clock,
    lineTo: (machine) => network.line('edge', machine),
    retries: { count: 2, delayMs: 100 },
  });
  t.after(() => network.close());
  return { clock, network, edge };
}

/** Advances time, step by step, until the condition holds. */
async function passing<T>(clock: TestClock, promise: Promise<T>): Promise<T> {
  const progress = { isOver: false };
  const end = (): void => void (progress.isOver = true);
  promise.then(end, end);
  while (!progress.isOver) await clock.advance(50);
  return promise;
}

/** Replays to `b2` unless the request has come back, and reports why it did. */
async function startReplaying(t: TestContext, fields = ''): Promise<ScriptedMachine> {
  return startMachine(t, 'a1', (request, response) => {
    const failed = request.headers['fly-replay-failed']?.toString();
    if (failed === undefined) replaying(`instance=b2${fields}`)(request, response);
    else response.end(parseReplayFailure(failed).reason);
  });
}

for (const how of ['refuse', 'hang'] as const) {
  test(`a first request skips a Machine that the edge cannot reach (${how})`, async (t) => {
    const machines = [
      await startMachine(t, 'a1', naming('a1')),
      await startMachine(t, 'b2', naming('b2')),
    ];
    const { edge, network, clock } = await startPlace(t, machines);
    const heal = network.cut({ from: 'edge', to: A }, how);
    for (let i = 0; i < 2; i += 1)
      assert.equal((await passing(clock, sendRequest(edge.url))).body, 'b2');
    heal();
    const prefer = { headers: { 'fly-prefer-instance-id': 'a1' } };
    assert.equal((await sendRequest(edge.url, prefer)).body, 'a1');
  });
}

test('a replay to a Machine that refuses connections fails after the retries', async (t) => {
  const a = await startReplaying(t, ';timeout=30s;fallback=force_self');
  const b = await startMachine(t, 'b2', naming('b2'));
  const { edge, network, clock } = await startPlace(t, [a, b]);
  const force = { headers: { 'fly-force-instance-id': 'a1' } };
  network.cut({ from: 'edge', to: B }, 'refuse');
  assert.equal((await passing(clock, sendRequest(edge.url, force))).body, 'retries_exhausted');
  network.heal();
  assert.equal((await sendRequest(edge.url, force)).body, 'b2');
});

test('a replay over an unresponsive link ends with its timeout', async (t) => {
  const a = await startReplaying(t, ';timeout=500ms;fallback=force_self');
  const b = await startMachine(t, 'b2', naming('b2'));
  const { edge, network, clock } = await startPlace(t, [a, b]);
  network.cut({ from: 'edge', to: B });
  const force = { headers: { 'fly-force-instance-id': 'a1' } };
  assert.equal((await passing(clock, sendRequest(edge.url, force))).body, 'timeout');
});

test('a stream over a cut link pauses, and continues when the link is restored', async (t) => {
  const opened = Promise.withResolvers<ServerResponse>();
  const machine = await startMachine(t, 'a1', (_request, response) => {
    response.flushHeaders();
    opened.resolve(response);
  });
  const { edge, network } = await startPlace(t, [machine]);
  const request = httpRequest(edge.url, { agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const stream = await opened.promise;
  let text = '';
  response.on('data', (chunk) => (text += String(chunk)));
  const heal = network.cut({ from: 'edge', to: A });
  await new Promise((resolve) => stream.end('all of it', () => resolve(undefined)));
  for (let turn = 0; turn < 100; turn += 1) await nextTurn();
  assert.equal(text, '');
  heal();
  await once(response, 'end');
  assert.equal(text, 'all of it');
});

test('a socket over a cut link pauses both ways, and continues when the link is restored', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  const server = new WebSocketServer({ server: machine.server });
  const received: string[] = [];
  server.on('connection', (socket) =>
    socket.on('message', (message: Buffer) => {
      received.push(message.toString());
      socket.send(`got ${message.toString()}`);
    }),
  );
  const { edge, network } = await startPlace(t, [machine]);
  const socket = new WebSocket(edge.url.replace('http', 'ws'));
  await once(socket, 'open');
  const heal = network.cut({ from: 'edge', to: A });
  await new Promise((resolve) => socket.send('hello', () => resolve(undefined)));
  for (let turn = 0; turn < 100; turn += 1) await nextTurn();
  assert.deepEqual(received, []);
  heal();
  assert.equal(String((await once(socket, 'message'))[0]), 'got hello');
  socket.close();
  await once(socket, 'close');
});

test('a slow link delays a response by its latency both ways', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  const { edge, network, clock } = await startPlace(t, [machine]);
  network.delay({ from: 'edge', to: 'machines' }, 300);
  assert.equal((await passing(clock, sendRequest(edge.url))).body, 'a1');
  assert.ok((edge.records[0]?.ms ?? 0) >= 600);
});

/** What the Machine sends at the end of a slow link, all at once, before it disconnects. */
const BROKEN_OFF: readonly [what: string, headers: Record<string, string>, head: string][] = [
  ['an answer', {}, 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'],
  [
    'a socket',
    { connection: 'Upgrade', upgrade: 'websocket' },
    'HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  ],
];

for (const [what, headers, head] of BROKEN_OFF) {
  test(`${what} that breaks before its head has arrived breaks at the client`, async (t) => {
    const closed = Promise.withResolvers<undefined>();
    const breakOff = ({ socket, headers: { upgrade } }: IncomingMessage): void => {
      socket.once('close', () => closed.resolve(undefined));
      socket.write(head, () => {
        if (upgrade === undefined) socket.destroy();
        else socket.resetAndDestroy();
      });
    };
    const machine = await startMachine(t, 'a1', breakOff);
    machine.server.on('upgrade', breakOff);
    const { edge, network, clock } = await startPlace(t, [machine]);
    network.delay({ from: 'edge', to: A }, 300);
    const client = connect(Number(new URL(edge.url).port), '127.0.0.1');
    client.on('error', () => undefined);
    client.resume();
    const fields = Object.entries({ host: 'x', ...headers }).map(([name, value]) => {
      return `${name}: ${value}\r\n`;
    });
    client.write(`GET / HTTP/1.1\r\n${fields.join('')}\r\n`);
    const isGone = new Promise((resolve) => client.once('close', resolve));
    await passing(clock, closed.promise);
    // The edge detects it before the head's delay has passed.
    for (let turn = 0; turn < 100; turn += 1) await nextTurn();
    await passing(clock, isGone);
    assert.equal(edge.records.length, 1);
  });
}

interface Neighbours {
  readonly network: NetworkFaults;
  readonly clock: TestClock;
  /** Resolves to the response, or to the code of the error. */
  readonly call: (from: string, to: string) => Promise<string>;
}

async function startNeighbours(t: TestContext): Promise<Neighbours> {
  const machines = await Promise.all(
    [A, B, C].map(async (id) => {
      const { app, region, port } = await startMachine(t, id, naming(id));
      return { id, app, region, processGroup: 'app', state: 'started' as const, peerPort: port };
    }),
  );
  const clock = createTestClock();
  const network = createNetwork(() => machines, clock);
  const privateNetwork = createPrivateNetwork({
    machines: () => machines,
    lineBetween: network.line,
    clock,
  });
  t.after(async () => {
    network.close();
    await privateNetwork.close();
  });
  const ports = new Map<string, number>();
  for (const { id } of machines) ports.set(id, await privateNetwork.openPort(id));
  const call: Neighbours['call'] = (from, to) => {
    const headers = { host: `${to}.vm.shop.internal` };
    return sendRequest(`http://127.0.0.1:${ports.get(from) ?? 0}`, { headers }).then(
      ({ body }) => body,
      (error: unknown) => String((error as NodeJS.ErrnoException).code),
    );
  };
  return { network, clock, call };
}

test('each direction between two Machines can be cut separately, without an effect on others', async (t) => {
  const { network, call } = await startNeighbours(t);
  const heal = network.cut({ from: A, to: B }, 'refuse');
  assert.deepEqual(
    [await call(A, B), await call(B, A), await call(A, C), await call(C, B)],
    ['ECONNRESET', 'a1', 'c3', 'b2'],
  );
  heal();
  assert.equal(await call(A, B), 'b2');
  network.cutBetween(A, B, 'refuse');
  assert.deepEqual([await call(A, B), await call(B, A)], ['ECONNRESET', 'ECONNRESET']);
});

test('an isolated Machine reaches no Machine and is unreachable', async (t) => {
  const { network, call } = await startNeighbours(t);
  const heal = network.isolate(A, 'refuse');
  assert.equal(network.line('edge', A).state(), 'refusing');
  assert.deepEqual([await call(A, B), await call(C, A)], ['ECONNRESET', 'ECONNRESET']);
  assert.equal(await call(B, C), 'c3');
  heal();
  assert.deepEqual([await call(A, B), await call(C, A)], ['b2', 'a1']);
});

test('a call over an unresponsive link waits until the link is restored, or times out', async (t) => {
  const { network, clock, call } = await startNeighbours(t);
  const heal = network.cut({ from: B, to: A });
  const waiting = call(A, B);
  const hasResolved = await Promise.race([waiting.then(() => true), call(A, C).then(() => false)]);
  assert.equal(hasResolved, false, 'a response would not come back');
  heal();
  assert.equal(await waiting, 'b2');
  network.cut({ from: A, to: B });
  assert.equal(await passing(clock, call(A, B)), 'ECONNRESET');
});

test('a slow direction delays a call', async (t) => {
  const { network, clock, call } = await startNeighbours(t);
  network.delay({ from: A, to: B }, 400);
  const before = clock.monotonicMs();
  assert.equal(await passing(clock, call(A, B)), 'b2');
  assert.ok(clock.monotonicMs() - before >= 400);
});

test('a resolver can be unresponsive, failing or stale, for all Machines or for one', async (t) => {
  const machine = { app: 'shop', region: 'iad', processGroup: 'app', peerPort: 1 };
  const machines = [{ ...machine, id: A, state: 'started' as 'started' | 'stopped' }];
  const network = createNetwork(() => machines, createTestClock());
  t.after(() => network.close());
  const resolverOf = async (caller?: typeof A): Promise<dns.Resolver> => {
    const server = await startDnsServer(
      () => machines,
      () => network.resolver(caller),
    );
    t.after(() => server.close());
    const resolver = new dns.Resolver({ timeout: 50, tries: 1 });
    resolver.setServers([server.address]);
    return resolver;
  };
  const [ofA, ofB] = [await resolverOf(A), await resolverOf(B)];
  const name = 'vms.shop.internal';
  const heal = network.breakResolver('failing', A);
  await assert.rejects(ofA.resolveTxt(name), { code: 'ESERVFAIL' });
  assert.deepEqual(await ofB.resolveTxt(name), [['a1 iad']]);
  heal();
  network.breakResolver('silent');
  await assert.rejects(ofA.resolveTxt(name), { code: 'ETIMEOUT' });
  await assert.rejects(ofB.resolveTxt(name), { code: 'ETIMEOUT' });
  network.heal();
  network.breakResolver('stale', B);
  machines.push({ ...machine, id: C, state: 'started' });
  machines[0] = { ...machine, id: A, state: 'stopped' };
  assert.deepEqual(await ofB.resolveTxt(name), [['a1 iad']]);
  assert.deepEqual(await ofA.resolveTxt(name), [['c3 iad']]);
  network.heal();
  assert.deepEqual(await ofB.resolveTxt(name), [['c3 iad']]);
});

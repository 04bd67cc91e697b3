/**
 * An exception in a callback of the engine closes the affected connections to the client and to the app,
 * and is reported. Other connections stay open.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import type { Limits } from '../../../src/http/limits.ts';
import type { BodyFilter, OutgoingResponse, PipeOwner } from '../../../src/http/pipe-owner.ts';
import type {
  IncomingRequestListener,
  IncomingRequest,
} from '../../../src/http/incoming-request.ts';
import type { RequestHandler } from '../../../src/http/served-requests.ts';
import { until } from '../../e2e/support/until.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { openRawClient, type RawClient } from '../../support/raw.ts';
import { startForwarder, type Forwarder } from './forwarder.ts';

/** The behavior of the app, by the target of a request. */
const APP: Readonly<Record<string, (socket: Socket) => void>> = {
  '/respond': (socket) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
  '/stream': (socket) =>
    void socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n'),
  '/large': (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${LARGE}\r\n\r\n`);
    socket.write(Buffer.alloc(LARGE, 'x'));
  },
  '/interim': (socket) =>
    void socket.write(
      'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    ),
  '/switch': (socket) =>
    void socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n',
    ),
  '/switch-and-reset': (socket) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n',
      () => socket.resetAndDestroy(),
    );
  },
  '/cut': (socket) => void socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut'),
  '/reset': (socket) => void socket.resetAndDestroy(),
  '/silent': () => undefined,
  '/bystander': (socket) => void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'),
};
/** More than the socket buffers of three hops hold for a client that does not read: 36 MB each on Linux. */
const LARGE = 100_000_000;

const FAULT = new Error('thrown by the test');

function throwFault(): never {
  throw FAULT;
}

type OwnerPart = Partial<PipeOwner> | ((abort: () => void) => Partial<PipeOwner>);

interface Row {
  readonly hook: string;
  readonly target: keyof typeof APP;
  readonly owner?: OwnerPart;
  readonly listener?: Partial<IncomingRequestListener>;
  readonly handler?: Partial<RequestHandler>;
  /** The text after the request line. */
  readonly head?: string;
  /** Only the bystander can reach the app. */
  readonly isAppGone?: boolean;
  readonly limits?: Partial<Limits>;
  /** The client does not read before `then`. */
  readonly isSlow?: boolean;
  /** Called when the app has the request, or immediately if it never gets one. */
  readonly then?: (client: RawClient, forwarder: Forwarder) => void;
}

const outgoing = (inspector: BodyFilter): OutgoingResponse => ({
  rawHeaders: ['Content-Length', '2'],
  inspector,
});
const inspectorWith = (part: Partial<BodyFilter>): Partial<PipeOwner> => {
  const nothing = { out: undefined, until: undefined, isDone: false };
  return { onResponse: () => outgoing({ push: () => nothing, end: () => nothing, ...part }) };
};
const rejected = (): Promise<never> => Promise.reject(FAULT);

const abortAndThrow = (abort: () => void): Partial<PipeOwner> => ({
  onResponse: () => {
    abort();
    throw FAULT;
  },
});

const POST = 'Content-Length: 4\r\n\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n\r\n';
const UPGRADE = 'Connection: Upgrade\r\nUpgrade: foo\r\n\r\n';
const disconnect = (client: RawClient): void => void client.socket.resetAndDestroy();
const send = (text: string) => (client: RawClient) => client.send(text);
/** Starts reading once a part of the response waits for the client. */
const readLate = (client: RawClient, { budget }: Forwarder): void => {
  void until(() => (budget.heldBytes > 0 ? [] : ['bytes that wait'])).then(() =>
    client.socket.resume(),
  );
};

const ROWS: readonly Row[] = [
  {
    hook: 'owner.onFinished of a tunnel that the client ends',
    target: '/switch',
    owner: { onFinished: throwFault },
    head: UPGRADE,
    then: disconnect,
  },
  {
    hook: 'owner.onFinished of a tunnel that the app ends',
    target: '/switch-and-reset',
    owner: { onFinished: throwFault },
    head: UPGRADE,
  },
  { hook: 'handler.handle', target: '/respond', handler: { handle: throwFault } },
  {
    hook: 'handler.handleMalformed',
    target: '/respond',
    handler: { handleMalformed: throwFault },
    head: 'a b\r\n\r\n',
  },
  {
    hook: 'listener.onRequestBody',
    target: '/silent',
    listener: { onRequestBody: throwFault },
    head: POST,
    then: send('ab'),
  },
  {
    hook: 'listener.onRequestEnd',
    target: '/silent',
    listener: { onRequestEnd: throwFault },
    head: POST,
    then: send('abcd'),
  },
  {
    hook: 'listener.onMalformedBody',
    target: '/silent',
    listener: { onMalformedBody: throwFault },
    head: CHUNKED,
    then: send('x'),
  },
  {
    hook: 'listener.onClientWritable',
    target: '/large',
    listener: { onClientWritable: throwFault },
    isSlow: true,
    then: readLate,
  },
  { hook: 'owner.onInterim', target: '/interim', owner: { onInterim: throwFault } },
  { hook: 'owner.onResponse', target: '/respond', owner: { onResponse: throwFault } },
  { hook: 'owner.onResponse, by a promise', target: '/stream', owner: { onResponse: rejected } },
  {
    hook: 'owner.onResponse, after an abort of the pipe',
    target: '/respond',
    owner: abortAndThrow,
  },
  { hook: 'owner.onResponseStarted', target: '/stream', owner: { onResponseStarted: throwFault } },
  {
    hook: 'owner.onUpgradeResponse',
    target: '/switch',
    owner: { onUpgradeResponse: throwFault },
    head: UPGRADE,
  },
  {
    hook: 'owner.onUpgradeResponse, by a promise',
    target: '/switch',
    owner: { onUpgradeResponse: rejected },
    head: UPGRADE,
  },
  { hook: 'owner.onTunnel', target: '/switch', owner: { onTunnel: throwFault }, head: UPGRADE },
  { hook: 'owner.onFailed', target: '/reset', owner: { onFailed: throwFault } },
  {
    hook: 'owner.onFailed, without a connection',
    target: '/respond',
    owner: { onFailed: throwFault },
    isAppGone: true,
  },
  {
    hook: 'owner.onFailed, with too many connections',
    target: '/respond',
    owner: { onFailed: throwFault },
    limits: { upstreamConnections: 1 },
  },
  { hook: 'owner.onResponseAborted', target: '/cut', owner: { onResponseAborted: throwFault } },
  {
    hook: 'owner.onMalformedBody',
    target: '/silent',
    owner: { onMalformedBody: throwFault },
    head: CHUNKED,
    then: send('x'),
  },
  {
    hook: 'owner.onClientDisconnected',
    target: '/silent',
    owner: { onClientDisconnected: throwFault },
    then: disconnect,
  },
  { hook: 'inspector.push', target: '/stream', owner: inspectorWith({ push: throwFault }) },
  { hook: 'inspector.end', target: '/respond', owner: inspectorWith({ end: throwFault }) },
  {
    hook: 'inspector.push, by a promise',
    target: '/stream',
    owner: inspectorWith({ push: () => ({ out: undefined, until: rejected(), isDone: false }) }),
  },
  {
    hook: 'inspector.end, by a promise',
    target: '/respond',
    owner: inspectorWith({ end: () => ({ out: undefined, until: rejected(), isDone: true }) }),
  },
];

for (const row of ROWS) {
  test(`an exception in ${row.hook} ends that connection and no other`, async (t) => {
    const appSockets = new Map<string, Socket>();
    const forwarder = await startGuarded(t, row, appSockets);
    const bystander = await openBystander(forwarder);
    const client = await openRawClient(forwarder.port);
    t.after(() => {
      client.socket.destroy();
      bystander.socket.destroy();
    });
    if (row.isSlow) client.socket.pause();
    client.send(requestTo(row));
    const isFaultDue = row.then === undefined;
    if (!isFaultDue) await until(() => (appSockets.has(row.target) ? [] : ['the request']));
    row.then?.(client, forwarder);

    await client.untilClosed();
    await until(() => (forwarder.faults.length > 0 ? [] : ['a report']));
    await until(() =>
      appSockets.get(row.target)?.closed === false ? ['the end of the app’s side'] : [],
    );
    assert.deepEqual(forwarder.faults, [FAULT]);
    await until(() => (forwarder.listener.busyCount() === 1 ? [] : ['the end of the request']));

    appSockets.get('/bystander')?.write('other');
    await bystander.until((text) => text.endsWith('halfother'));
    await nothingIsLeft(forwarder, bystander);
  });
}

test('an exception after a complete response leaves no resource open', async (t) => {
  const row: Row = {
    hook: 'owner.onFinished',
    target: '/respond',
    owner: { onFinished: throwFault },
  };
  const appSockets = new Map<string, Socket>();
  const forwarder = await startGuarded(t, row, appSockets);
  const bystander = await openBystander(forwarder);
  const client = await openRawClient(forwarder.port);
  client.send(requestTo(row));
  await client.until((text) => text.endsWith('ok'));
  client.socket.end();
  await client.untilClosed();
  assert.deepEqual(forwarder.faults, [FAULT]);
  appSockets.get('/bystander')?.write('other');
  await bystander.until((text) => text.endsWith('halfother'));
  await nothingIsLeft(forwarder, bystander);
});

/** A forwarder whose hooks throw only for the target of the row. */
async function startGuarded(
  t: TestContext,
  row: Row,
  appSockets: Map<string, Socket>,
): Promise<Forwarder> {
  const appPort = await serveRawApp(t, (socket, request) => {
    const target = request.split(' ')[1] ?? '';
    const respond = APP[target];
    if (!respond) return;
    appSockets.set(target, socket);
    respond(socket);
  });
  const isMeant = (request: IncomingRequest): boolean => request.head.target !== '/bystander';
  let connections = 0;
  return startForwarder(t, {
    appPort,
    // The connection that carried the request closes after it.
    keepAliveMs: 0,
    ...(row.limits ? { limits: row.limits } : {}),
    address: () => {
      connections += 1;
      const isGone = row.isAppGone === true && connections > 1;
      return isGone ? undefined : { host: '127.0.0.1', port: appPort };
    },
    hooks: (request, abort) => {
      if (!isMeant(request)) return {};
      if (row.listener) listenTo(request, row.listener);
      return typeof row.owner === 'function' ? row.owner(abort) : (row.owner ?? {});
    },
    handler: (handler) => {
      const ofRow = { ...handler, ...row.handler };
      return {
        handle: (request) => (isMeant(request) ? ofRow : handler).handle(request),
        handleMalformed: (request, why) => ofRow.handleMalformed(request, why),
      };
    },
  });
}

/** Replaces these methods of every later listener of the request. */
function listenTo(request: IncomingRequest, part: Partial<IncomingRequestListener>): void {
  const listen = request.listen.bind(request);
  request.listen = (listener) => {
    const whole: IncomingRequestListener = {
      onRequestBody: (bytes) => listener.onRequestBody(bytes),
      onRequestEnd: () => listener.onRequestEnd(),
      onMalformedBody: (why) => listener.onMalformedBody(why),
      onClientWritable: () => listener.onClientWritable(),
      onClientDisconnected: () => listener.onClientDisconnected(),
      ...part,
    };
    listen(whole);
  };
}

function requestTo({ target, head = '\r\n' }: Row): string {
  const hasBody = head === POST || head === CHUNKED;
  return `${hasBody ? 'POST' : 'GET'} ${target} HTTP/1.1\r\nHost: h\r\n${head}`;
}

/** Starts a request whose response the test completes. */
async function openBystander({ port }: Forwarder): Promise<RawClient> {
  const bystander = await openRawClient(port);
  bystander.send('GET /bystander HTTP/1.1\r\nHost: h\r\n\r\n');
  await bystander.until((text) => text.endsWith('half'));
  return bystander;
}

async function nothingIsLeft(forwarder: Forwarder, bystander: RawClient): Promise<void> {
  bystander.socket.end();
  await bystander.untilClosed();
  await until(() => (forwarder.listener.busyCount() === 0 ? [] : ['the end of all requests']));
  await forwarder.close();
  assert.deepEqual(
    {
      connections: forwarder.pool.connectionCount,
      swept: forwarder.sweep.size,
      held: forwarder.budget.heldBytes,
    },
    { connections: 0, swept: 0, held: 0 },
  );
}

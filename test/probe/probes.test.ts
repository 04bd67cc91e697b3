import assert from 'node:assert/strict';
import type { RequestListener } from 'node:http';
import { test } from 'node:test';
import express from 'express';
import session from 'express-session';
import { detect, probesFor } from '../../src/probe/detect.ts';
import { createMcpProbe } from '../../src/probe/mcp.ts';
import { createOwnRequestProbe } from '../../src/probe/own-request.ts';
import { createCookieProbe } from '../../src/probe/session-cookie.ts';
import { createDemoApp } from '../../src/simulator/demo-app.ts';
import { createMcpDoor } from '../e2e/apps/mcp.ts';
import { assertOpened, lossesOf } from './calls.ts';
import { startTwoMachines } from './machines.ts';

/** The official SDK's server. */
function createMcpApp(): RequestListener {
  const door = createMcpDoor();
  return (request, response) => {
    if (request.url?.startsWith('/mcp')) void door.handle(request, response);
    else response.writeHead(404).end();
  };
}

function createExpressApp(): RequestListener {
  const app = express();
  app.use(session({ secret: 'of the test', resave: false, saveUninitialized: true }));
  app.get('/', (_request, response) => void response.send('hello'));
  return app;
}

test('MCP: no call of a session is lost on its own Machine, and each on another one', async (t) => {
  const { single, inTurn } = await startTwoMachines(t, { createApp: createMcpApp });
  const probe = createMcpProbe('/mcp');
  assert.deepEqual(await lossesOf(probe, single, 3), [undefined, undefined, undefined]);
  const lost = { how: 'unknown-session', why: '404 Session not found' };
  assert.deepEqual(await lossesOf(probe, inTurn, 4), [lost, undefined, lost, undefined]);
});

test('the session cookie of Express: a call on another Machine begins a new session', async (t) => {
  const { single, inTurn } = await startTwoMachines(t, { createApp: createExpressApp });
  const probe = createCookieProbe('express', '/');
  assert.deepEqual(await lossesOf(probe, single, 2), [undefined, undefined]);
  const lost = { how: 'new-session', why: 'the app set a new connect.sid' };
  assert.deepEqual(await lossesOf(probe, inTurn, 2), [lost, lost]);
});

test('a request of the user: the id in a header of the response comes back in that header', async (t) => {
  const createApp = (): ReturnType<typeof createDemoApp> => createDemoApp('a');
  const { single, inTurn } = await startTwoMachines(t, { createApp });
  const rpc = (method: string): { method: string; target: string; body: string } => ({
    method: 'POST',
    target: '/rpc',
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method }),
  });
  const probe = createOwnRequestProbe({ open: rpc('initialize'), call: rpc('count') });
  assert.deepEqual(await lossesOf(probe, single, 2), [undefined, undefined]);
  const lost = { how: 'unknown-session', why: '404 Session not found' };
  assert.deepEqual(await lossesOf(probe, inTurn, 2), [lost, undefined]);
});

/** Rooms under ids of the app, in the JSON of its response, or in its Location. */
function createRooms(): RequestListener {
  const rooms = new Set<string>();
  return (request, response) => {
    const [, id = ''] = /^\/rooms\/([^/]+)$/.exec(request.url ?? '') ?? [];
    if (request.method === 'POST' && id === '') {
      const room = String(Math.random());
      rooms.add(room);
      response.writeHead(201, { location: `/rooms/${room}` });
      response.end(JSON.stringify({ room: { id: room } }));
    } else {
      response.writeHead(rooms.has(id) ? 200 : 410);
      response.end(JSON.stringify({ error: `no room ${id}\nhere` }));
    }
  };
}

for (const target of ['/rooms/{/room/id}', '{location}']) {
  test(`a request of the user: ${target} is filled from the first response, and masked in what the app says`, async (t) => {
    const { inTurn } = await startTwoMachines(t, { createApp: createRooms });
    const probe = createOwnRequestProbe({
      open: { method: 'POST', target: '/rooms' },
      call: { method: 'GET', target },
    });
    const [first, second] = await lossesOf(probe, inTurn, 2);
    assert.equal(first?.how, 'error');
    assert.equal(first.why, '410 no room (id) here');
    assert.equal(second, undefined);
  });
}

test('a request of the user: {session} is another id in each session, everywhere the same in one', async (t) => {
  const seen: string[] = [];
  const createApp = (): RequestListener => (request, response) => {
    seen.push(`${request.url} ${request.headers['x-room']?.toString()}`);
    response.end();
  };
  const { single } = await startTwoMachines(t, { createApp });
  const headers = { 'x-room': '{session}' };
  const probe = createOwnRequestProbe({ call: { method: 'GET', target: '/r/{session}', headers } });
  await lossesOf(probe, single, 1);
  await lossesOf(probe, single, 1);
  const [first = '', again, second = ''] = seen;
  assert.equal(again, first);
  assert.notEqual(second, first);
  for (const text of [first, second]) assert.match(text, /^\/r\/([-0-9a-f]{36}) \1$/);
});

test('a request of the user without any session is recognised as that', async (t) => {
  const createApp = (): RequestListener => (_request, response) => void response.end('{}');
  const { single } = await startTwoMachines(t, { createApp });
  const opening = await createOwnRequestProbe({ call: { method: 'GET', target: '/' } }).open(
    single,
  );
  assert.equal(opening.kind, 'stateless');
});

test('a session is shown by the beginning of its key, the same with an owner hint', async (t) => {
  const createApp = (): RequestListener => (_request, response) => {
    response.writeHead(200, { 'x-session-id': 'abc~1234' }).end();
  };
  const { single } = await startTwoMachines(t, { createApp });
  const probe = createOwnRequestProbe({ call: { method: 'GET', target: '/' } });
  assert.equal(assertOpened(await probe.open(single)).key, 'ba7816bf');
});

test('the protocol of an app is found out', async (t) => {
  const found = async (createApp: () => RequestListener): Promise<string | undefined> => {
    const { single } = await startTwoMachines(t, { createApp });
    const detection = await detect(single, probesFor(undefined));
    return detection.kind === 'found' ? detection.probe.preset : detection.kind;
  };
  assert.equal(await found(createMcpApp), 'mcp');
  assert.equal(await found(createExpressApp), 'express');
  assert.equal(await found(() => (_request, response) => void response.end('hello')), 'unknown');
});

test('an MCP server without sessions is not taken for one with sessions', async (t) => {
  const createApp = (): RequestListener => (_request, response) => {
    const result = { protocolVersion: '2025-06-18', capabilities: {}, serverInfo: {} };
    response.end(JSON.stringify({ jsonrpc: '2.0', id: 0, result }));
  };
  const { single } = await startTwoMachines(t, { createApp });
  const detection = await detect(single, probesFor(undefined));
  assert.equal(detection.kind, 'stateless');
});

test('without a connection, or without a response in time, a call is lost', async (t) => {
  const { single } = await startTwoMachines(t, { createApp: () => () => undefined, timeoutMs: 50 });
  const opening = await createMcpProbe('/mcp').open(single);
  assert.ok(opening.kind === 'other' && opening.exchange.kind === 'no-response');
  assert.equal(opening.exchange.why, 'timeout');
});

test('a request of the user: no cookie that the app repeats is shown, whatever its name', async (t) => {
  const createApp = (): RequestListener => (request, response) => {
    response.setHeader('set-cookie', ['theme=dark', 'sid=s3cr3t-of-an-app~148e21ea7e5689']);
    if (request.method === 'GET') response.writeHead(404);
    response.end('no s3cr3t-of-an-app in the dark');
  };
  const { single } = await startTwoMachines(t, { createApp });
  const probe = createOwnRequestProbe({
    open: { method: 'POST', target: '/' },
    call: { method: 'GET', target: '/' },
  });
  const lost = { how: 'unknown-session', why: '404 no (id) in the dark' };
  assert.deepEqual(await lossesOf(probe, single, 1), [lost]);
});

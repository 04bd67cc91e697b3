/** The probes against servers of the product table: the official ones, where there is one in JavaScript. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { test } from 'node:test';
import { detect, probesFor } from '../../src/probe/detect.ts';
import { createJupyterProbe } from '../../src/probe/jupyter.ts';
import { createMcpProbe } from '../../src/probe/mcp.ts';
import { createMcpSseProbe } from '../../src/probe/mcp-sse.ts';
import type { Loss, Probe } from '../../src/probe/probe.ts';
import { createCookieProbe } from '../../src/probe/session-cookie.ts';
import { createSignalRProbe } from '../../src/probe/signalr.ts';
import { createSocketIoProbe } from '../../src/probe/socket-io.ts';
import type { Door } from '../e2e/apps/door.ts';
import { createMcpDoor } from '../e2e/apps/mcp.ts';
import { createMcpSseDoor } from '../e2e/apps/mcp-sse.ts';
import { createServerOfDoors } from '../e2e/apps/serve-doors.ts';
import { createSignalRDoor } from '../e2e/apps/signalr.ts';
import { createSocketIoDoor } from '../e2e/apps/socket-io.ts';
import { createJupyterDoor } from '../e2e/products/servers/jupyter.ts';
import { createPhpDoor } from '../e2e/products/servers/php.ts';
import { createSocketIoV2Door } from '../e2e/products/servers/socket-io-v2.ts';
import { lossesOf } from './calls.ts';
import { startTwoMachines } from './machines.ts';

interface Row {
  readonly name: string;
  readonly createDoor: () => Door;
  readonly probe: Probe;
  readonly loss: Loss;
  /** Undefined: `detect` needs the path. */
  readonly path?: string;
}

const notFound = (message: string): Loss => ({ how: 'unknown-session', why: `404 ${message}` });

const ROWS: readonly Row[] = [
  {
    name: 'MCP, Streamable HTTP',
    createDoor: createMcpDoor,
    probe: createMcpProbe('/mcp'),
    loss: notFound('Session not found'),
  },
  {
    name: 'MCP, HTTP with SSE',
    createDoor: createMcpSseDoor,
    probe: createMcpSseProbe('/sse'),
    loss: notFound('Session not found'),
  },
  {
    name: 'Socket.IO 4',
    createDoor: createSocketIoDoor,
    probe: createSocketIoProbe('/socket.io/'),
    loss: { how: 'unknown-session', why: '400 Session ID unknown' },
  },
  {
    name: 'Socket.IO 2',
    createDoor: createSocketIoV2Door,
    probe: createSocketIoProbe('/socket.io-v2/'),
    loss: { how: 'unknown-session', why: '400 Session ID unknown' },
    path: '/socket.io-v2/',
  },
  {
    name: 'SignalR',
    createDoor: createSignalRDoor,
    probe: createSignalRProbe('/hub'),
    loss: notFound('No Connection with that ID'),
  },
  {
    name: 'Jupyter',
    createDoor: createJupyterDoor,
    probe: createJupyterProbe('/'),
    loss: notFound('does not exist: (id)'),
  },
];

function createApp({ createDoor }: Row): Server {
  return createServerOfDoors([createDoor()]);
}

for (const row of ROWS) {
  test(`${row.name}: the calls that meet another Machine are lost, and no others`, async (t) => {
    const { single, inTurn } = await startTwoMachines(t, { createApp: () => createApp(row) });
    assert.deepEqual(await lossesOf(row.probe, single, 4), Array(4).fill(undefined));
    const { loss } = row;
    // What a session needs first is repeated until it succeeds. After five calls, its end arrives, too.
    const losses = await lossesOf(row.probe, inTurn, 5);
    assert.deepEqual(losses, [loss, undefined, loss, undefined, loss]);
  });

  test(`${row.name} is recognised`, async (t) => {
    const { single } = await startTwoMachines(t, { createApp: () => createApp(row) });
    const detection = await detect(single, probesFor(row.path));
    assert.ok(detection.kind === 'found', JSON.stringify(detection));
    assert.equal(detection.probe.preset, row.probe.preset);
    assert.equal(detection.probe.where, row.probe.where);
  });
}

test('an app that takes over unknown cookies shows no loss: only its Machine tells', async (t) => {
  const createPhp = (): Server => createServerOfDoors([createPhpDoor()]);
  const { inTurn } = await startTwoMachines(t, { createApp: createPhp });
  const losses = await lossesOf(createCookieProbe('php', '/php/'), inTurn, 2);
  assert.deepEqual(losses, [undefined, undefined]);
});

test('Socket.IO without polling keeps no session between connections', async (t) => {
  const createWebSocketsOnly = (): Server => {
    const server = createServer((_request, response) => {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end('{"code":0,"message":"Transport unknown"}');
    });
    return server;
  };
  const { single } = await startTwoMachines(t, { createApp: createWebSocketsOnly });
  const opening = await createSocketIoProbe('/socket.io/').open(single);
  assert.equal(opening.kind, 'stateless');
});

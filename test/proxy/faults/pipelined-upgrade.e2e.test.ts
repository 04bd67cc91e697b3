/**
 * Fault 1: a request and a pipelined upgrade in one packet ended the process. The sidecar runs in a
 * separate process, so that the test can detect its exit.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { lineWithMessage, linesOf, start } from '../../cli/program.ts';
import { serve } from '../../support/sidecar.ts';
import { openClient } from '../../support/raw.ts';
import {
  BOUNDED,
  get,
  post,
  readResponses,
  summaryOf,
  untilResponses,
  UPGRADE_FIELDS,
  type Ports,
} from './support.ts';

/** A fleet list with the address of the tests, and one without it. */
const PEERS = { FLEET: 'm2@127.0.0.1:9' };
const UNKNOWN_PEERS = { FLEET: 'm9@127.0.0.9:9' };

const UPGRADE = get('/w', ...UPGRADE_FIELDS);

interface Program {
  readonly ports: Ports;
  readonly child: ChildProcess;
}

/** A sidecar whose app responds `hello`, echoes in tunnels, and holds `/slow` until `release`. */
async function startProgram(
  t: TestContext,
  env: Record<string, string> = PEERS,
): Promise<Program & { release: () => void }> {
  const released = Promise.withResolvers<undefined>();
  const app = createServer((req, res) => {
    req.resume();
    const isFree = req.url === '/slow' ? released.promise : Promise.resolve();
    void isFree.then(() => res.end('hello'));
  });
  app.on('upgrade', (_req, socket, first: Buffer) => {
    const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket';
    socket.on('error', () => undefined);
    socket.write(`${head}\r\n\r\n`);
    socket.write(first);
    socket.pipe(socket);
  });
  const url = `http://127.0.0.1:${await serve(t, app)}`;
  const given = { UPSTREAM_URL: url, FLY_MACHINE_ID: 'm1', ...env };
  const child = start(t, { args: ['serve'], env: given });
  const { ports } = await lineWithMessage(linesOf(child), 'serving');
  return { ports: ports as Ports, child, release: () => released.resolve(undefined) };
}

/** Asserts that the process runs and serves. */
async function assertAlive({ child, ports }: Program): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${ports.public}/`);
  assert.deepEqual([response.status, await response.text()], [200, 'hello']);
  assert.deepEqual([child.exitCode, child.signalCode], [null, null]);
}

describe('an upgrade pipelined after a request, in one packet,', () => {
  for (const [name, first, body] of [
    ['a GET', get('/'), 'hello'],
    ['a POST', post('/', 'body'), 'hello'],
    ['a request that is replayed', get('/', 'Mcp-Session-Id: x~m2'), ''],
  ] as const) {
    test(`gets its tunnel after the response to ${name}`, BOUNDED, async (t) => {
      const program = await startProgram(t);
      const client = await openClient(t, program.ports.public);
      client.send(first + UPGRADE);
      const [response, tunnel] = await untilResponses(client, 2);
      assert.deepEqual([response?.body, tunnel?.status], [body, 101]);
      client.send('ping');
      await client.until((text) => readResponses(text).rest === 'ping');
      await assertAlive(program);
    });
  }

  test('gets its tunnel only after a slow response', BOUNDED, async (t) => {
    const program = await startProgram(t);
    const client = await openClient(t, program.ports.public);
    client.send(`${get('/slow')}${UPGRADE}early`);
    await assertAlive(program);
    assert.equal(client.received(), '');
    program.release();
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 hello', '101']);
    await client.until((text) => readResponses(text).rest === 'early');
    await assertAlive(program);
  });

  test('is followed by tunnel bytes: a second upgrade is not a request', BOUNDED, async (t) => {
    const program = await startProgram(t);
    const client = await openClient(t, program.ports.public);
    client.send(get('/') + UPGRADE + UPGRADE);
    await client.until((text) => readResponses(text).rest === UPGRADE);
    await assertAlive(program);
  });

  test(
    'does not end the process if its client resets the connection immediately',
    BOUNDED,
    async (t) => {
      const program = await startProgram(t);
      for (let i = 0; i < 10; i += 1) {
        const client = await openClient(t, program.ports.public);
        client.socket.write(get('/') + UPGRADE, () => client.socket.resetAndDestroy());
        await client.untilClosed();
      }
      await assertAlive(program);
    },
  );
});

describe('on the peer port an upgrade pipelined after a request, in one packet,', () => {
  test('returns 403 for an unknown address, and the process stays alive', BOUNDED, async (t) => {
    const program = await startProgram(t, UNKNOWN_PEERS);
    for (const first of [get('/'), post('/v1/ask', '{}'), get('/v1/forward')]) {
      const client = await openClient(t, program.ports.peer);
      client.send(first + UPGRADE);
      const responses = await untilResponses(client, 1);
      assert.ok(responses.every(({ status }) => status === 403));
      await assertAlive(program);
    }
  });

  test('gets its tunnel after the response to a forward of a peer', BOUNDED, async (t) => {
    const program = await startProgram(t);
    const client = await openClient(t, program.ports.peer);
    const forward = (target: string, ...fields: string[]): string =>
      get(
        '/v1/forward',
        `x-fly-affinity-target: ${target}`,
        'x-fly-affinity-machine: m1',
        ...fields,
      );
    client.send(forward('/') + forward('/w', ...UPGRADE_FIELDS));
    const responses = await untilResponses(client, 2);
    assert.deepEqual(responses.map(summaryOf), ['200 hello', '101']);
    client.send('ping');
    await client.until((text) => readResponses(text).rest === 'ping');
    await assertAlive(program);
  });
});

/** An operator's drain: `/drain` and `/undrain` of whole sidecars. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import type { SessionStore } from '../../src/store/store.ts';
import type { Admin } from '../../src/admin/admin.ts';
import { createDraining, type Draining } from '../../src/routing/placement.ts';
import { createOwnSessionCount } from '../../src/app/drain.ts';
import { ADMIN_TOKEN, startBehindEdge, type Called } from '../support/behind-edge.ts';
import type { TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { createMemoryLog } from '../support/log.ts';
import { openRawClient } from '../support/raw.ts';
import { readinessAt } from '../support/readiness.ts';
import { serveSessionApp, SESSION } from '../support/session-app.ts';
import { startTestSidecar } from '../support/sidecar.ts';
import { openAdmin } from './support.ts';

const AUTHORIZED = { authorization: `Bearer ${ADMIN_TOKEN}` };
const FLEET = { FLEET: 'm2@127.0.0.1:9', DRAIN_TIMEOUT_MS: '10000' };
const ELSEWHERE = 'elsewhere=true;state=fly-affinity;timeout=10s;fallback=force_self';

interface Opened {
  readonly sidecar: Sidecar;
  readonly url: string;
  readonly send: (
    method: string,
    path: string,
    headers?: Record<string, string>,
  ) => Promise<Response>;
  readonly messages: () => string[];
}

async function open(t: TestContext, env: Environment = {}): Promise<Opened> {
  const log = createMemoryLog();
  const settings = { ADMIN_TOKEN, ...FLEET, ...env };
  const sidecar = await startTestSidecar(t, await serveSessionApp(t), settings, {
    logger: log.logger,
  });
  const admin = `http://127.0.0.1:${sidecar.ports.admin}`;
  return {
    sidecar,
    url: `http://127.0.0.1:${sidecar.ports.public}`,
    send: (method, path, headers = AUTHORIZED) => fetch(admin + path, { method, headers }),
    messages: () => log.messages('info').filter((message) => message !== 'request'),
  };
}

describe('/drain', () => {
  const rows: readonly (readonly [said: string, status: number, state: string])[] = [
    ['GET /drain', 200, 'taking'],
    ['POST /undrain', 200, 'taking'],
    ['POST /drain', 200, 'drained'],
    ['POST /drain?x=1', 200, 'drained'],
    ['POST /drain, POST /drain', 200, 'drained'],
    ['POST /drain, GET /drain', 200, 'drained'],
    ['POST /drain, POST /undrain', 200, 'taking'],
    ['POST /drain, POST /undrain, POST /undrain', 200, 'taking'],
    ['POST /drain, POST /undrain, POST /drain', 200, 'drained'],
    ['signal, GET /drain', 200, 'ending'],
    ['signal, POST /drain', 200, 'ending'],
    ['signal, POST /undrain', 409, 'ending'],
    ['POST /drain, signal, POST /undrain', 409, 'ending'],
  ];
  for (const [calls, status, state] of rows) {
    test(`after ${calls} the state is ${state}, with status ${status}`, async (t) => {
      const { send, sidecar } = await open(t);
      await fetch(`http://127.0.0.1:${sidecar.ports.public}/open`, { method: 'POST' });
      let response: Response | undefined;
      for (const words of calls.split(', ')) {
        const [method = '', path = ''] = words.split(' ');
        if (method === 'signal') void sidecar.drain();
        else response = await send(method, path);
      }
      assert.equal(response?.status, status);
      const { error, ...body } = (await response.json()) as { error?: string };
      assert.deepEqual(body, { state, ownSessions: 1, openRequests: 0 });
      assert.equal(error === undefined, status === 200);
    });
  }

  test('requires the admin token, and does not exist without one', async (t) => {
    const { send, sidecar } = await open(t);
    const unauthorized: Record<string, string>[] = [{}, { authorization: 'Bearer another' }];
    for (const headers of unauthorized) {
      for (const calls of ['GET /drain', 'POST /drain', 'POST /undrain', 'PUT /drain']) {
        const [method = '', path = ''] = calls.split(' ');
        const response = await send(method, path, headers);
        assert.deepEqual(
          [response.status, response.headers.get('www-authenticate')],
          [401, 'Bearer'],
        );
      }
    }
    assert.equal(sidecar.readiness().ready, true);
    const closed = await open(t, { ADMIN_TOKEN: '' });
    assert.equal((await closed.send('POST', '/drain')).status, 404);
    assert.equal(closed.sidecar.readiness().ready, true);
  });

  for (const [calls, allow] of [
    ['PUT /drain', 'GET, HEAD, POST'],
    ['DELETE /drain', 'GET, HEAD, POST'],
    ['GET /undrain', 'POST'],
  ] as const) {
    test(`${calls} returns 405 and changes nothing`, async (t) => {
      const { send, sidecar } = await open(t);
      const [method = '', path = ''] = calls.split(' ');
      const response = await send(method, path);
      assert.deepEqual([response.status, response.headers.get('allow')], [405, allow]);
      assert.equal(sidecar.readiness().ready, true);
    });
  }

  /** The routes alone, with a store that counts as `countOwnSessions` does. */
  async function openRoutes(
    t: TestContext,
    countOwnSessions: () => Promise<number | undefined>,
  ): Promise<{ admin: Admin; url: string; draining: Draining; clock: TestClock }> {
    const draining = createDraining();
    const { admin, url, clock } = await openAdmin(t, {
      ...{ draining, countOwnSessions, countOpenRequests: () => 3 },
    });
    return { admin, url: `${url}/drain`, draining, clock };
  }

  test('omits the session count when the store returns unknown, and still drains', async (t) => {
    const entries: SessionStore['entries'] = () => {
      throw new Error('disk gone');
    };
    const count = createOwnSessionCount({ entries }, machineId('m1'));
    const { url, draining } = await openRoutes(t, count);
    const response = await fetch(url, { method: 'POST', headers: AUTHORIZED });
    assert.deepEqual(await response.json(), { state: 'drained', openRequests: 3 });
    assert.equal(draining.state(), 'drained');
  });

  test('waits ten seconds for a store that hangs, and responds without its count', async (t) => {
    const countStarted = Promise.withResolvers<undefined>();
    const { url, clock } = await openRoutes(t, () => {
      countStarted.resolve(undefined);
      return new Promise(() => undefined);
    });
    const responding = fetch(url, { method: 'POST', headers: AUTHORIZED });
    await countStarted.promise;
    await clock.advance(10_000);
    assert.deepEqual(await (await responding).json(), { state: 'drained', openRequests: 3 });
    assert.equal(clock.pendingCount(), 0);
  });

  test('does not delay a stop while a store hangs', async (t) => {
    const countStarted = Promise.withResolvers<undefined>();
    const { admin, url, clock } = await openRoutes(t, () => {
      countStarted.resolve(undefined);
      return new Promise(() => undefined);
    });
    const cut = assert.rejects(fetch(url, { method: 'POST', headers: AUTHORIZED }));
    await countStarted.promise;
    await admin.stop();
    await cut;
    assert.equal(clock.pendingCount(), 0);
  });
});

describe('a Machine drained by its operator', () => {
  test('sends new sessions to other Machines, serves its own, and is not ready', async (t) => {
    const { send, url, sidecar, messages } = await open(t);
    await fetch(`${url}/open`, { method: 'POST' });
    await send('POST', '/drain');
    const { status, reason } = await readinessAt(sidecar.ports.admin);
    assert.deepEqual([status, reason], [503, 'drained']);
    const opened = await fetch(`${url}/open`, { method: 'POST', redirect: 'manual' });
    assert.equal(opened.headers.get('fly-replay'), ELSEWHERE);
    const called = await fetch(url, { headers: SESSION });
    assert.equal(await called.text(), 'from the app');

    await send('POST', '/undrain');
    assert.equal((await readinessAt(sidecar.ports.admin)).status, 200);
    const again = await fetch(`${url}/open`, { method: 'POST', redirect: 'manual' });
    assert.equal(again.headers.get('mcp-session-id'), SESSION['mcp-session-id']);
    assert.deepEqual(messages(), [
      'drained by the operator: new sessions go to other Machines',
      'first request of a protocol',
      'drain ended by the operator: this Machine takes new sessions again',
    ]);
  });

  test('keeps its connections open, which a signal closes', async (t) => {
    const { send, sidecar } = await open(t);
    const client = await openRawClient(sidecar.ports.public);
    const request = `GET / HTTP/1.1\r\nHost: a\r\nmcp-session-id: ${SESSION['mcp-session-id']}\r\n\r\n`;
    const countResponses = (text: string): number => text.split('from the app').length - 1;
    await send('POST', '/drain');
    for (const count of [1, 2]) {
      client.send(request);
      await client.until((text) => countResponses(text) === count);
    }
    assert.doesNotMatch(client.received(), /connection: close/i);
    void sidecar.drain();
    client.send(request);
    assert.match(await client.untilClosed(), /connection: close/i);
    assert.equal(countResponses(client.received()), 3);
  });

  test('counts what is still open', async (t) => {
    const { send, sidecar } = await open(t);
    const client = await openRawClient(sidecar.ports.public);
    client.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((text) => text.includes('first'));
    const response = await send('POST', '/drain');
    assert.deepEqual(await response.json(), { state: 'drained', ownSessions: 0, openRequests: 1 });
    client.socket.destroy();
  });

  test('stops on a signal like any other', async (t) => {
    const { send, sidecar } = await open(t);
    await send('POST', '/drain');
    await sidecar.drain();
    assert.equal(sidecar.readiness().reason, 'draining');
    await sidecar.stop();
  });

  test('returns no 5xx when all Machines are drained', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2']);
    for (const id of ['m1', 'm2']) await fleet.admin(id, 'POST', '/drain');
    const { status, way } = await fleet.open('m1');
    assert.deepEqual([status, way], [200, ['m1', 'm2']]);
  });

  test('loses no call, however often it is drained and undrained under load', async (t) => {
    const fleet = await startBehindEdge(t, ['m1', 'm2']);
    let isOver = false;
    const visit = async (first: string): Promise<Called[]> => {
      const calls: Called[] = [];
      while (!isOver) {
        const opened = await fleet.open(first);
        const called = await fleet.call(first, opened.session ?? '');
        assert.equal(called.by, opened.by);
        calls.push(opened, called);
      }
      return calls;
    };
    const visits = ['m1', 'm1', 'm2', 'm2'].map(visit);
    for (let round = 0; round < 5; round += 1) {
      await fleet.admin('m1', 'POST', '/drain');
      const drained = await Promise.all([fleet.open('m1'), fleet.open('m1'), fleet.open('m1')]);
      assert.deepEqual(new Set(drained.map(({ by }) => by)), new Set(['m2']));
      await fleet.admin('m1', 'POST', '/undrain');
      assert.equal((await fleet.open('m1')).by, 'm1');
    }
    isOver = true;
    const calls = (await Promise.all(visits)).flat();
    assert.ok(calls.length > 0);
    for (const { status, way } of calls) {
      assert.equal(status, 200);
      assert.ok(way.length <= 2, `more than one replay: ${way.join(' -> ')}`);
    }
  });
});

/** An operator's drain: `/drain` and `/undrain` of whole sidecars. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Environment } from '../../src/config/config.ts';
import type { Sidecar } from '../../src/app/lifecycle.ts';
import type { SessionStore } from '../../src/store/store.ts';
import type { Admin } from '../../src/admin/admin.ts';
import { createDraining, type Draining } from '../../src/routing/draining.ts';
import { createOwnSessionCount } from '../../src/app/drain.ts';
import { ADMIN_TOKEN, startBehindEdge, type Called } from '../support/behind-edge.ts';
import type { TestClock } from '../support/clock.ts';
import { machineId } from '../support/ids.ts';
import { createKeptLog } from '../support/log.ts';
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
  readonly ask: (
    method: string,
    path: string,
    headers?: Record<string, string>,
  ) => Promise<Response>;
  readonly messages: () => string[];
}

async function open(t: TestContext, env: Environment = {}): Promise<Opened> {
  const log = createKeptLog();
  const settings = { ADMIN_TOKEN, ...FLEET, ...env };
  const sidecar = await startTestSidecar(t, await serveSessionApp(t), settings, {
    logger: log.logger,
  });
  const admin = `http://127.0.0.1:${sidecar.ports.admin}`;
  return {
    sidecar,
    url: `http://127.0.0.1:${sidecar.ports.public}`,
    ask: (method, path, headers = AUTHORIZED) => fetch(admin + path, { method, headers }),
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
  for (const [said, status, state] of rows) {
    test(`after ${said} the state is ${state}, answered ${status}`, async (t) => {
      const { ask, sidecar } = await open(t);
      await fetch(`http://127.0.0.1:${sidecar.ports.public}/open`, { method: 'POST' });
      let answer: Response | undefined;
      for (const words of said.split(', ')) {
        const [method = '', path = ''] = words.split(' ');
        if (method === 'signal') void sidecar.drain();
        else answer = await ask(method, path);
      }
      assert.equal(answer?.status, status);
      const { error, ...told } = (await answer.json()) as { error?: string };
      assert.deepEqual(told, { state, ownSessions: 1, openRequests: 0 });
      assert.equal(error === undefined, status === 200);
    });
  }

  test('is there for those alone who bring the token, and only if there is one', async (t) => {
    const { ask, sidecar } = await open(t);
    const strangers: Record<string, string>[] = [{}, { authorization: 'Bearer another' }];
    for (const headers of strangers) {
      for (const said of ['GET /drain', 'POST /drain', 'POST /undrain', 'PUT /drain']) {
        const [method = '', path = ''] = said.split(' ');
        const refused = await ask(method, path, headers);
        assert.deepEqual(
          [refused.status, refused.headers.get('www-authenticate')],
          [401, 'Bearer'],
        );
      }
    }
    assert.equal(sidecar.readiness().ready, true);
    const closed = await open(t, { ADMIN_TOKEN: '' });
    assert.equal((await closed.ask('POST', '/drain')).status, 404);
    assert.equal(closed.sidecar.readiness().ready, true);
  });

  for (const [said, allow] of [
    ['PUT /drain', 'GET, HEAD, POST'],
    ['DELETE /drain', 'GET, HEAD, POST'],
    ['GET /undrain', 'POST'],
  ] as const) {
    test(`${said} is answered 405 and changes nothing`, async (t) => {
      const { ask, sidecar } = await open(t);
      const [method = '', path = ''] = said.split(' ');
      const answer = await ask(method, path);
      assert.deepEqual([answer.status, answer.headers.get('allow')], [405, allow]);
      assert.equal(sidecar.readiness().ready, true);
    });
  }

  /** The routes alone, before a store that counts as `countOwnSessions` does. */
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

  test('counts no sessions where the store can not say, and drains all the same', async (t) => {
    const entries: SessionStore['entries'] = () => {
      throw new Error('disk gone');
    };
    const count = createOwnSessionCount({ entries }, machineId('m1'));
    const { url, draining } = await openRoutes(t, count);
    const answer = await fetch(url, { method: 'POST', headers: AUTHORIZED });
    assert.deepEqual(await answer.json(), { state: 'drained', openRequests: 3 });
    assert.equal(draining.state(), 'drained');
  });

  test('waits ten seconds for a store that hangs, and answers without its count', async (t) => {
    const asked = Promise.withResolvers<undefined>();
    const { url, clock } = await openRoutes(t, () => {
      asked.resolve(undefined);
      return new Promise(() => undefined);
    });
    const answering = fetch(url, { method: 'POST', headers: AUTHORIZED });
    await asked.promise;
    await clock.advance(10_000);
    assert.deepEqual(await (await answering).json(), { state: 'drained', openRequests: 3 });
    assert.equal(clock.pendingCount(), 0);
  });

  test('holds no stop up while a store hangs', async (t) => {
    const asked = Promise.withResolvers<undefined>();
    const { admin, url, clock } = await openRoutes(t, () => {
      asked.resolve(undefined);
      return new Promise(() => undefined);
    });
    const cut = assert.rejects(fetch(url, { method: 'POST', headers: AUTHORIZED }));
    await asked.promise;
    await admin.stop();
    await cut;
    assert.equal(clock.pendingCount(), 0);
  });
});

describe('a Machine drained by its operator', () => {
  test('sends new sessions elsewhere, serves its own, and is not ready', async (t) => {
    const { ask, url, sidecar, messages } = await open(t);
    await fetch(`${url}/open`, { method: 'POST' });
    await ask('POST', '/drain');
    const { status, reason } = await readinessAt(sidecar.ports.admin);
    assert.deepEqual([status, reason], [503, 'drained']);
    const opened = await fetch(`${url}/open`, { method: 'POST', redirect: 'manual' });
    assert.equal(opened.headers.get('fly-replay'), ELSEWHERE);
    const called = await fetch(url, { headers: SESSION });
    assert.equal(await called.text(), 'from the app');

    await ask('POST', '/undrain');
    assert.equal((await readinessAt(sidecar.ports.admin)).status, 200);
    const again = await fetch(`${url}/open`, { method: 'POST', redirect: 'manual' });
    assert.equal(again.headers.get('mcp-session-id'), SESSION['mcp-session-id']);
    assert.deepEqual(messages(), [
      'drained by the operator: new sessions go to other Machines',
      'drain ended by the operator: this Machine takes new sessions again',
    ]);
  });

  test('keeps its connections, which a signal lets go', async (t) => {
    const { ask, sidecar } = await open(t);
    const client = await openRawClient(sidecar.ports.public);
    const request = `GET / HTTP/1.1\r\nHost: a\r\nmcp-session-id: ${SESSION['mcp-session-id']}\r\n\r\n`;
    const countAnswers = (text: string): number => text.split('from the app').length - 1;
    await ask('POST', '/drain');
    for (const count of [1, 2]) {
      client.send(request);
      await client.until((text) => countAnswers(text) === count);
    }
    assert.doesNotMatch(client.received(), /connection: close/i);
    void sidecar.drain();
    client.send(request);
    assert.match(await client.untilClosed(), /connection: close/i);
    assert.equal(countAnswers(client.received()), 3);
  });

  test('counts what is still open', async (t) => {
    const { ask, sidecar } = await open(t);
    const client = await openRawClient(sidecar.ports.public);
    client.send('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until((text) => text.includes('first'));
    const answer = await ask('POST', '/drain');
    assert.deepEqual(await answer.json(), { state: 'drained', ownSessions: 0, openRequests: 1 });
    client.socket.destroy();
  });

  test('ends with a signal as any other', async (t) => {
    const { ask, sidecar } = await open(t);
    await ask('POST', '/drain');
    await sidecar.drain();
    assert.equal(sidecar.readiness().reason, 'draining');
    await sidecar.stop();
  });

  test('is no reason for a 5xx where all are drained', async (t) => {
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

/** A Machine suspends itself while nobody uses it, and its sessions outlive that. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { STATUS_PATH } from '../../src/fleet/messages.ts';
import { keyOf } from '../support/ids.ts';
import { openRawClient } from '../support/raw.ts';
import { serveApp } from '../support/sidecar.ts';
import {
  AFTER_MS,
  FAILED,
  NIGHT_MS,
  request,
  requestAdmin,
  sleepOf,
  startScene,
  STAYS_AWAKE,
  suspend,
  SUSPENDED,
  TTL_MS,
  until,
  untilLogged,
  type Respond,
  type Scene,
} from './sleep-scene.ts';

function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => resolve(true));
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
  });
}

describe('a Machine that nobody uses', () => {
  test('asks Fly.io on its socket to suspend it, with its ports closed, and serves again', async (t) => {
    const refused: boolean[] = [];
    const scene = await startScene(t, (incoming, response, { sidecar, ...given }) => {
      void Promise.all([isRefused(sidecar.ports.public), isRefused(sidecar.ports.peer)]).then(
        (both) => {
          refused.push(...both);
          suspend(incoming, response, { sidecar, ...given });
        },
      );
    });
    const client = await openRawClient(scene.sidecar.ports.public);
    await untilLogged(scene, SUSPENDED);
    assert.equal(await client.untilClosed(), '');
    assert.deepEqual(scene.calls, ['POST flaps/v1/apps/my-app/machines/m1/suspend']);
    assert.deepEqual(refused, [true, true]);
    assert.equal((await request(scene.url)).status, 200);
    const { state, suspended, failed } = sleepOf(scene);
    assert.deepEqual([state, suspended, failed], ['awake', 1, 0]);
    const text = await scene.metrics.render();
    assert.match(text, /^fly_affinity_suspends_total\{outcome="suspended"\} 1$/m);
  });

  test('stays awake while a stream is open, and until SUSPEND_AFTER is over after its end', async (t) => {
    const scene = await startScene(t);
    const client = await openRawClient(scene.sidecar.ports.public);
    client.send('GET /stream HTTP/1.1\r\nHost: a\r\nFly-Request-Id: r1\r\n\r\n');
    await client.until((text) => text.includes('first'));
    await scene.clock.sleep(3 * AFTER_MS);
    assert.deepEqual([scene.calls, sleepOf(scene).idleMs], [[], 0]);
    client.socket.destroy();
    await until(() => sleepOf(scene).idleMs !== 0);
    await scene.clock.sleep(AFTER_MS / 2);
    assert.deepEqual(scene.calls, []);
    await untilLogged(scene, SUSPENDED);
  });

  test('stays awake after each request of a client', async (t) => {
    const scene = await startScene(t);
    for (let requests = 0; requests < 5; requests += 1) {
      await request(scene.url);
      await scene.clock.sleep(AFTER_MS * 0.6);
    }
    assert.deepEqual(scene.calls, []);
  });

  test('is not kept awake by health checks of Fly.io, nor by those of the admin port', async (t) => {
    const scene = await startScene(t);
    for (let checks = 0; checks < 8; checks += 1) {
      await fetch(scene.url, { headers: { connection: 'close' } }).catch(() => undefined);
      await fetch(`http://127.0.0.1:${scene.sidecar.ports.admin}/readyz`);
      await scene.clock.sleep(AFTER_MS / 4);
    }
    assert.notEqual(scene.calls.length, 0);
  });

  test('stays awake after it was woken, until SUSPEND_AFTER is over', async (t) => {
    const scene = await startScene(t);
    await untilLogged(scene, SUSPENDED);
    await scene.clock.sleep(AFTER_MS / 2);
    assert.equal(scene.calls.length, 1);
    await untilLogged(scene, SUSPENDED, 2);
  });

  test('suspends itself never without SUSPEND_AFTER', async (t) => {
    const scene = await startScene(t, suspend, { SUSPEND_AFTER: '0' });
    await scene.clock.sleep(10 * AFTER_MS);
    assert.deepEqual([scene.calls, sleepOf(scene)], [[], {}]);
  });

  test('ends in the middle of it, and leaves nothing open', async (t) => {
    const scene = await startScene(t, () => undefined);
    await until(() => scene.calls.length === 1);
    await scene.sidecar.stop();
    assert.equal(await isRefused(scene.sidecar.ports.public), true);
  });
});

describe('a request that comes', () => {
  test('while Fly.io suspends the Machine is refused by the kernel, and served after it has resumed', async (t) => {
    const isAsked = Promise.withResolvers<() => void>();
    const scene = await startScene(t, (incoming, response, given) => {
      isAsked.resolve(() => suspend(incoming, response, given));
    });
    const resume = await isAsked.promise;
    assert.equal(await isRefused(scene.sidecar.ports.public), true);
    resume();
    await untilLogged(scene, SUSPENDED);
    assert.equal(await (await request(scene.url)).text(), 'from the app');
  });

  test('while the peers are told keeps the Machine awake, and they hear that', async (t) => {
    const told: boolean[] = [];
    const held = Promise.withResolvers<() => void>();
    const peer = await serveApp(t, (incoming, response) => {
      let text = '';
      incoming.on('data', (part: Buffer) => (text += part.toString()));
      incoming.on('end', () => {
        const isAsleep = text.includes('"isAsleep":true');
        if (incoming.url === STATUS_PATH) told.push(isAsleep);
        const status = { version: 2, takesSessions: true };
        const respond = (): void => void response.end(JSON.stringify({ machine: 'm2', status }));
        if (isAsleep) held.resolve(respond);
        else respond();
      });
    });
    const scene = await startScene(t, suspend, { FLEET: `m2@127.0.0.1:${peer}` });
    const respond = await held.promise;
    await request(scene.url);
    respond();
    await untilLogged(scene, STAYS_AWAKE);
    const stayed = scene.log.lines.filter(({ message }) => message === STAYS_AWAKE);
    assert.deepEqual(
      stayed.map(({ fields }) => fields),
      [{ reason: 'a request has come' }],
    );
    assert.deepEqual([scene.calls, sleepOf(scene).state], [[], 'awake']);
    await until(() => told.at(-1) === false);
  });
});

describe('a Machine serves on when Fly.io', () => {
  const rows: readonly (readonly [claim: string, reason: RegExp, respond: Respond])[] = [
    [
      'does not know it',
      /^Fly\.io responds 404: \{"error":"machine not found"\}$/,
      (_, response) => response.writeHead(404).end('{"error":"machine not found"}'),
    ],
    [
      'refuses, as for more than 2 GB',
      /^Fly\.io responds 400: too much memory$/,
      (_, response) => response.writeHead(400).end('too much memory'),
    ],
    ['fails', /^Fly\.io responds 500: $/, (_, response) => response.writeHead(500).end()],
    ['does not respond', /^Fly\.io does not respond within 10000 ms$/, () => undefined],
    ['hangs up', /^the socket \S+ fails: ECONNRESET$/, ({ socket }) => socket.destroy()],
    [
      'accepts it and does nothing',
      /^Fly\.io has accepted the request, and has not suspended this Machine$/,
      (_, response) => response.end('{"ok":true}'),
    ],
  ];
  for (const [claim, reason, respond] of rows) {
    test(claim, async (t) => {
      const scene = await startScene(t, respond);
      await request(`${scene.url}/open/a`, { method: 'POST' });
      await untilLogged(scene, FAILED);
      const { state, failed, lastFailure } = sleepOf(scene);
      assert.deepEqual([state, failed], ['awake', 1]);
      assert.match(lastFailure ?? '', reason);
      assert.equal(
        (await request(scene.url, { headers: { 'mcp-session-id': 'a~m1' } })).status,
        200,
      );
    });
  }

  test('has no socket on this Machine', async (t) => {
    const scene = await startScene(t, suspend, { SUSPEND_SOCKET: '/nowhere/api' });
    await untilLogged(scene, FAILED);
    assert.equal(sleepOf(scene).lastFailure, 'there is no socket /nowhere/api');
    assert.equal((await request(scene.url)).status, 200);
  });

  test('fails: the reason, which may name a path, is for those who have the token', async (t) => {
    const scene = await startScene(t, suspend, { SUSPEND_SOCKET: '/nowhere/api' });
    await untilLogged(scene, FAILED);
    const { admin } = scene.sidecar.ports;
    for (const path of ['/status', '/readyz']) {
      const open = await (await fetch(`http://127.0.0.1:${admin}${path}`)).text();
      assert.doesNotMatch(open, /nowhere/);
      assert.match(open, /"hasFailed":true/);
    }
    assert.match(await (await requestAdmin(scene.sidecar, '/status')).text(), /nowhere/);
    assert.match(
      await (await requestAdmin(scene.sidecar, '/')).text(),
      /This Machine could not suspend itself \(there is no socket \/nowhere\/api\)/,
    );
  });

  test('fails again and again: each attempt waits twice as long', async (t) => {
    const scene = await startScene(t, (_, response) => response.writeHead(500).end());
    await untilLogged(scene, FAILED, 4);
    const waits = scene.log.lines.flatMap(({ fields }) =>
      'retryMs' in fields ? [Number(fields.retryMs) / AFTER_MS] : [],
    );
    assert.deepEqual(waits, [1, 2, 4, 8]);
  });
});

describe('a session', () => {
  const open = async ({ url }: Scene, id: string): Promise<void> => {
    assert.equal((await request(`${url}/open/${id}`, { method: 'POST' })).status, 200);
  };
  const use = ({ url }: Scene, id: string): Promise<Response> =>
    request(url, { headers: { 'mcp-session-id': `${id}~m1` } });
  /** Undefined if there is no such session. */
  const leftMsOf = async ({ sidecar, clock }: Scene, id: string): Promise<number | undefined> => {
    const response = await requestAdmin(sidecar, `/sessions/${keyOf(id)}`);
    const { expiresAt } = (await response.json()) as { expiresAt?: string };
    return expiresAt === undefined ? undefined : new Date(expiresAt).getTime() - clock.now();
  };
  const assertBetween = (ms: number | undefined, min: number, max: number): void =>
    assert.ok(ms !== undefined && ms >= min && ms <= max, `${ms} is not from ${min} to ${max}`);

  test('keeps the life that it had left, however long the Machine was suspended', async (t) => {
    const scene = await startScene(t);
    await open(scene, 'a');
    await untilLogged(scene, SUSPENDED);
    await scene.clock.sleep(1_000);
    assertBetween(await leftMsOf(scene, 'a'), TTL_MS - 3 * AFTER_MS, TTL_MS - AFTER_MS);
  });

  test('keeps it when the request fails, too', async (t) => {
    const scene = await startScene(t, (_, response) => response.writeHead(500).end());
    await open(scene, 'a');
    await untilLogged(scene, FAILED);
    await scene.clock.sleep(1_000);
    assertBetween(await leftMsOf(scene, 'a'), TTL_MS - 3 * AFTER_MS, TTL_MS - AFTER_MS);
  });

  test('survives a clock that lags and jumps later: an old one, a used one, and a new one', async (t) => {
    const scene = await startScene(t, (_, response) => response.end('{"ok":true}'));
    for (const id of ['old', 'used']) await open(scene, id);
    await until(() => sleepOf(scene).state === 'suspending');
    await until(() => sleepOf(scene).state === 'awake');
    await open(scene, 'new');
    await use(scene, 'used');
    scene.clock.jump(NIGHT_MS);
    await untilLogged(scene, SUSPENDED);
    await scene.clock.sleep(1_000);
    assertBetween(await leftMsOf(scene, 'new'), TTL_MS - AFTER_MS / 2, TTL_MS);
    for (const id of ['old', 'used'])
      assertBetween(await leftMsOf(scene, id), TTL_MS - 3 * AFTER_MS, TTL_MS);
    for (const id of ['old', 'used', 'new']) assert.equal((await use(scene, id)).status, 200);
  });

  test('that has expired is removed when the Machine wakes', async (t) => {
    const scene = await startScene(t, suspend, { SESSION_STORE_TTL_MS: '10000' });
    await open(scene, 'a');
    await untilLogged(scene, SUSPENDED);
    assert.equal(await leftMsOf(scene, 'a'), undefined);
  });

  test('lives no longer than SESSION_MAX_AGE_MS, asleep or not', async (t) => {
    const scene = await startScene(t, suspend, { SESSION_MAX_AGE_MS: String(2 * TTL_MS) });
    await open(scene, 'a');
    await untilLogged(scene, SUSPENDED);
    assert.equal(await leftMsOf(scene, 'a'), undefined);
  });
});

/** `/status` and the status page of whole sidecars. */
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { test } from 'node:test';
import type { Status } from '../../src/admin/status.ts';
import { until } from '../fleet/support.ts';
import { ADMIN_TOKEN, startBehindEdge } from '../support/behind-edge.ts';
import { createMemoryLog } from '../support/log.ts';
import { openMetrics } from '../support/metrics.ts';
import { serveApp, startTestSidecar } from '../support/sidecar.ts';

const AUTHORIZED = { authorization: `Bearer ${ADMIN_TOKEN}` };

test('the status counts requests by decision and protocol, and sessions by Machine', async (t) => {
  const fleet = await startBehindEdge(t, ['m1', 'm2'], {}, () => ({ metrics: openMetrics(t) }));
  const { session = '' } = await fleet.open('m1');
  assert.equal((await fleet.call('m2', session)).by, 'm1');
  await fleet.open('m2');
  const statusOf = async (id: string): Promise<Status> =>
    (await (await fleet.admin(id, 'GET', '/status')).json()) as Status;
  // A request is counted behind its response, and sessions are announced in the background.
  await until(async () => {
    const { requests } = await statusOf('m1');
    return requests.decisions.some(({ values }) => values[1] === 'owner');
  });
  const { machine, requests, machines, protocols, ready } = await statusOf('m1');
  assert.deepEqual([machine, ready, protocols], ['m1', true, { mcp: 1 }]);
  assert.deepEqual(
    requests.decisions.map(({ values, count }) => `${values.join(' ')} ${count}`),
    ['local no-session 1', 'local owner 1'],
  );
  const [other] = machines;
  assert.deepEqual([other?.machine, other?.state, other?.takesSessions], ['m2', 'running', true]);
  const { requests: onTheOther, sessions } = await statusOf('m2');
  const replays = onTheOther.decisions.filter(({ values }) => values[0] === 'replay');
  assert.equal(replays[0]?.count, 1);
  // Whether the store has copies of sessions of the other depends on time.
  assert.equal(sessions.byMachine?.m2, 1);
});

test('what names hosts and paths needs the token, in /status, in /readyz and on the page', async (t) => {
  const env = {
    ...{ ADMIN_TOKEN, SESSION_STORE_URL: '', SESSION_STORE_PATH: '/proc/none/store.sqlite' },
    ...{ FLEET: 'm1@127.0.0.9:1,m2@127.0.0.8:81', SESSION_PROTOCOLS: 'path:^/secret/([^/]+)' },
  };
  const app = await serveApp(t, (_request, response) => response.end());
  const { ports } = await startTestSidecar(t, app, env);
  await fetch(`http://127.0.0.1:${ports.public}/secret/one`);
  const read = async (path: string, headers = {}): Promise<string> =>
    (await fetch(`http://127.0.0.1:${ports.admin}${path}`, { headers })).text();
  const secret = /proc\/none|127\.0\.0|\^\/secret|ENOENT|EACCES/;
  for (const path of ['/readyz', '/status', '/']) {
    assert.doesNotMatch(await read(path), secret, path);
    assert.ok((await read(path, AUTHORIZED)).includes('/proc/none'), path);
  }
  const { detail, machines } = JSON.parse(await read('/status', AUTHORIZED)) as Status;
  assert.deepEqual(detail, {
    upstream: `http://127.0.0.1:${app}`,
    store: '/proc/none/store.sqlite',
  });
  assert.equal(machines[0]?.address, '127.0.0.8 port 81');
});

test('without ADMIN_TOKEN nothing opens them', async (t) => {
  const env = { SESSION_STORE_URL: '', SESSION_STORE_PATH: '/proc/none/store.sqlite' };
  const { ports } = await startTestSidecar(t, 1, env);
  for (const path of ['/readyz', '/status', '/']) {
    const response = await fetch(`http://127.0.0.1:${ports.admin}${path}`, { headers: AUTHORIZED });
    assert.doesNotMatch(await response.text(), /proc\/none/, path);
  }
});

test('a change of state is an event; single requests are not', async (t) => {
  const log = createMemoryLog();
  const { ports } = await startTestSidecar(t, 1, { ADMIN_TOKEN }, { logger: log.logger });
  // Nothing listens there.
  await fetch(`http://127.0.0.1:${ports.public}/`);
  await fetch(`http://127.0.0.1:${ports.admin}/drain`, { method: 'POST', headers: AUTHORIZED });
  const response = await fetch(`http://127.0.0.1:${ports.admin}/status`);
  const { events, reason, notAccepting } = (await response.json()) as Status;
  assert.deepEqual(
    events.others.map(({ message, about }) => [message, about]),
    [
      ['drained by the operator: new sessions go to other Machines', {}],
      [
        'the app is down: new sessions go to other Machines',
        { 'upstream.state': 'down', 'upstream.reason': 'connection refused' },
      ],
    ],
  );
  assert.deepEqual([reason, notAccepting], ['drained', 'draining']);
  assert.ok(log.messages('warn').includes('upstream failed'), 'the log has it');
});

test('open pages are no requests of the public side, and ten of them do not keep it from stopping', async (t) => {
  const sidecar = await startTestSidecar(t, 1, { ADMIN_TOKEN });
  const { ports } = sidecar;
  const paths = Array.from({ length: 10 }, (_, i) => `/?tab=${i}`);
  const responses = await Promise.all(
    paths.map(
      (path) =>
        new Promise<number | undefined>((resolve, reject) => {
          // It reads nothing of the page.
          const request = get({ port: ports.admin, host: '127.0.0.1', path, agent: false });
          request.on('response', (response) => {
            response.on('error', () => undefined);
            resolve(response.statusCode);
          });
          request.on('error', reject);
        }),
    ),
  );
  assert.deepEqual(new Set(responses), new Set([200]));
  const url = `http://127.0.0.1:${ports.admin}`;
  const drain = await (await fetch(`${url}/drain`, { headers: AUTHORIZED })).json();
  assert.equal((drain as { readonly openRequests: number }).openRequests, 0);
  const { requests } = (await (await fetch(`${url}/status`)).json()) as Status;
  assert.deepEqual([requests.open, requests.decisions], [0, []]);
  await sidecar.stop();
});

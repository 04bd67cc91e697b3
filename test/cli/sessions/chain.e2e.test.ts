/** Sessions are moved from SQLite to Redis to Postgres and back, with real servers. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { createPlace, type Place } from '../../store/place.ts';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';
import { start } from '../program.ts';
import { assertSameSessions, bindingsOf, documentOf, runSessions, sessionsIn } from './support.ts';

const NAMESPACE = { SESSION_STORE_NAMESPACE: 'shop' };

/** Through a file, as an operator would do. */
async function move(place: Place, from: string, to: string): Promise<string> {
  const file = join(place.directory, 'moved.jsonl');
  const exported = await runSessions(['export', file, '--store', from], { env: NAMESPACE });
  assert.equal(exported.code, 0, exported.errors);
  const { code, output, errors } = await runSessions(['import', file, '--store', to], {
    env: NAMESPACE,
  });
  assert.equal(code, 0, errors);
  return output;
}

async function contentsOf(store: string) {
  const { code, output, errors } = await runSessions(['export', '--store', store], {
    env: NAMESPACE,
  });
  assert.equal(code, 0, errors);
  return sessionsIn(output);
}

/** A write whose response is late on a busy computer is retried, and finds itself. */
function countIn(output: string): number {
  const [, imported, there] = /^(\d+) imported, (\d+) already there/.exec(output) ?? [];
  return Number(imported) + Number(there);
}

async function startRedis(t: TestContext, program: string) {
  return startRedisServer(t, { program, password: 's3cret', isDurable: true });
}

skipUnlessFound(neededForRedis, (redis) => {
  skipUnlessFound(neededForPostgres, (programs) => {
    test('sessions move from SQLite to Redis to Postgres and back, unchanged', async (t) => {
      const place = await createPlace(t);
      const [redisServer, postgres] = [
        await startRedis(t, redis),
        await startPostgresServer(t, { programs }),
      ];
      const bindings = bindingsOf(3_000);
      const [first, last] = [
        `sqlite:${place.path('a.sqlite')}`,
        `sqlite:${place.path('z.sqlite')}`,
      ];
      const input = documentOf(bindings);
      await runSessions(['import', '--store', first], { env: NAMESPACE, input });
      for (const [from, to] of [
        [first, redisServer.url],
        [redisServer.url, postgres.url()],
        [postgres.url(), last],
      ] as const) {
        assert.equal(countIn(await move(place, from, to)), 3_000);
        assert.match(await move(place, from, to), /^0 imported, 3000 already there/);
      }
      assertSameSessions(await contentsOf(last), bindings);
    });
  });

  test('another namespace of the same database holds other sessions', async (t) => {
    const { url } = await startRedis(t, redis);
    const input = documentOf(bindingsOf(3));
    await runSessions(['import', '--store', url], { env: NAMESPACE, input });
    const env = { SESSION_STORE_NAMESPACE: 'other' };
    const { output } = await runSessions(['list', '--json', '--store', url], { env });
    assert.equal(output, '');
  });

  test('a database that restarts in the middle of an import does not end it', async (t) => {
    const server = await startRedis(t, redis);
    const bindings = bindingsOf(8_000);
    const env = { ...NAMESPACE, SESSION_STORE_URL: server.url };
    const child = start(t, { args: ['sessions', 'import'], env, stdin: 'pipe' });
    assert.ok(child.stdin && child.stdout && child.stderr);
    const ended = once(child, 'exit');
    const [output, errors] = [textOf(child.stdout), textOf(child.stderr)];
    // A process that has ended too early reports the reason itself.
    child.stdin.on('error', () => undefined);
    const text = documentOf(bindings);
    child.stdin.write(text.slice(0, text.length / 2));
    while (child.exitCode === null && Number(await server.command('DBSIZE')) < 500) await pause(5);
    await server.kill();
    await server.start();
    child.stdin.end(text.slice(text.length / 2));
    assert.deepEqual(await ended, [0, null], await errors);
    assert.match(await output, / 0 expired, 0 owned by another Machine, 0 bad lines\n$/);
    assertSameSessions(await contentsOf(server.url), bindings);
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentEvents } from '../../src/observability/recent-events.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';
import { createMemoryLog } from '../support/log.ts';

function open() {
  const clock = createTestClock();
  const log = createMemoryLog();
  const events = new RecentEvents(clock);
  return { clock, log, events, logger: events.watch(log.logger) };
}

test('what is logged is kept, the last line first, and logged as it was', () => {
  const { log, events, logger } = open();
  logger.info({}, 'one');
  logger.error({ code: 5 }, 'two');
  const shown = events.others().map(({ level, message }) => [level, message]);
  assert.deepEqual(shown, [
    ['error', 'two'],
    ['info', 'one'],
  ]);
  assert.deepEqual(
    log.lines.map(({ fields }) => fields),
    [{}, { code: 5 }],
  );
});

test('a line about a session is apart, and shows the beginning of its key', () => {
  const { events, logger } = open();
  const session = keyOf('one');
  logger.warn({ session, owner: 'm2', why: 'outranked' }, 'session released');
  assert.deepEqual(events.others(), []);
  const [event] = events.ofSessions();
  assert.deepEqual(event?.about, { session: session.slice(0, 8), owner: 'm2', why: 'outranked' });
  assert.doesNotMatch(JSON.stringify(event), new RegExp(session));
});

test('what may name a host or a path is only in the detail', () => {
  const { events, logger } = open();
  const error = new Error('connect to db.internal', { cause: new Error('/data/x') });
  const store = {
    state: 'degraded',
    code: 'fatal',
    reason: 'at db.internal',
    writeBack: { depth: 1 },
  };
  logger.warn({ err: error, store, address: 'fdaa::1' }, 'failed');
  logger.info({ protocol: 'path:^/rooms/(.+)' }, 'first request of a protocol');
  const [first, second] = events.others();
  assert.deepEqual(first?.about, { protocol: 'path' });
  assert.ok(second);
  const { detail, ...shown } = second;
  assert.deepEqual(shown.about, { 'store.state': 'degraded', 'store.code': 'fatal' });
  assert.doesNotMatch(JSON.stringify(shown), /internal|\/data|fdaa/);
  for (const text of ['connect to db.internal', '/data/x', 'at db.internal', 'fdaa::1'])
    assert.ok(detail.includes(text), text);
  assert.doesNotMatch(detail, /status.test|node:internal/, 'no stack');
});

test('equal lines in a row are one, with their number and the last time', async () => {
  const { clock, events, logger } = open();
  for (const peer of ['m2', 'm2', 'm3']) {
    logger.warn({ peer }, 'does not respond');
    await clock.advance(1_000);
  }
  const shown = events.others().map(({ about, count, at }) => [about.peer, count, at]);
  const end = clock.now();
  assert.deepEqual(shown, [
    ['m3', 1, end - 1_000],
    ['m2', 2, end - 2_000],
  ]);
});

test('a flood of one kind pushes out nothing of the other, and both are bounded', () => {
  const { events, logger } = open();
  logger.warn({}, 'the store fails');
  for (let i = 0; i < 1_000; i += 1) logger.info({ session: keyOf(String(i)) }, 'released');
  assert.equal(events.ofSessions().length, 25);
  assert.equal(events.others().length, 1);
});

test('a value that is no JSON is left to the log', () => {
  const { log, events, logger } = open();
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  logger.warn({ circle }, 'odd');
  assert.equal(events.others()[0]?.detail, '');
  assert.deepEqual(log.messages('warn'), ['odd']);
});

test('long texts are shortened', () => {
  const { events, logger } = open();
  logger.warn({ peer: 'x'.repeat(1_000), reason: 'y'.repeat(10_000) }, 'long');
  assert.ok(JSON.stringify(events.others()).length < 1_000);
});

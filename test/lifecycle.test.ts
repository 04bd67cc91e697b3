import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  closeLogger,
  collectSignals,
  endOnCrash,
  serveUntilSignal,
  type Sidecar,
  type Signals,
} from '../src/lifecycle.ts';
import { nullLogger, type Logger } from '../src/logger.ts';
import { createTestClock } from './support/clock.ts';

interface Story {
  readonly events: EventEmitter;
  readonly signals: Signals;
  /** What was called and logged, in order. */
  readonly told: string[];
  readonly logger: Logger;
  readonly sidecar: Sidecar;
  readonly drained: PromiseWithResolvers<undefined>;
  readonly stopped: PromiseWithResolvers<undefined>;
}

function tell(t: TestContext): Story {
  const events = new EventEmitter();
  const signals = collectSignals(events);
  t.after(() => signals.stop());
  const told: string[] = [];
  const log = (_: object, message: string): void => void told.push(message);
  const drained = Promise.withResolvers<undefined>();
  const stopped = Promise.withResolvers<undefined>();
  const sidecar: Sidecar = {
    ports: { public: 1, peer: 2, admin: 3 },
    readiness: () => ({ ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } }),
    drain: async () => {
      told.push('drain()');
      await drained.promise;
    },
    stop: async () => {
      told.push('stop()');
      await stopped.promise;
    },
  };
  const logger = { ...nullLogger, info: log, warn: log, error: log, fatal: log };
  return { events, signals, told, logger, sidecar, drained, stopped };
}

test('a first signal drains, then stops, and ends with code 0', async (t) => {
  const { events, signals, told, logger, sidecar, drained, stopped } = tell(t);
  const ended = serveUntilSignal(sidecar, signals, logger);
  await nextTurn();
  assert.equal(told.length, 0);
  events.emit('SIGINT', 'SIGINT');
  await nextTurn();
  assert.deepEqual(told, ['draining', 'drain()']);
  drained.resolve(undefined);
  await nextTurn();
  assert.deepEqual(told, ['draining', 'drain()', 'stop()']);
  stopped.resolve(undefined);
  assert.equal(await ended, 0);
  assert.equal(told.at(-1), 'stopped');
});

for (const [second, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test(`a second signal, ${second}, ends at once with code ${code}`, async (t) => {
    const { events, signals, told, logger, sidecar } = tell(t);
    const ended = serveUntilSignal(sidecar, signals, logger);
    events.emit('SIGTERM', 'SIGTERM');
    events.emit(second, second);
    assert.equal(await ended, code);
    assert.ok(!told.includes('stop()'));
  });
}

test('a second signal ends a stop that hangs', async (t) => {
  const { events, signals, logger, sidecar, drained } = tell(t);
  const ended = serveUntilSignal(sidecar, signals, logger);
  drained.resolve(undefined);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await ended, 143);
});

test('a signal that came before anybody asked counts', async (t) => {
  const { events, signals } = tell(t);
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await signals.nth(1), 'SIGTERM');
});

test('what goes wrong while stopping is logged and ends nothing', async (t) => {
  const { events, signals, told, logger, sidecar, drained, stopped } = tell(t);
  events.emit('SIGINT', 'SIGINT');
  drained.resolve(undefined);
  stopped.reject(new Error('busy'));
  assert.equal(await serveUntilSignal(sidecar, signals, logger), 0);
  assert.equal(told.at(-1), 'stopping failed');
});

test('after the end signals do again what they always do', () => {
  const events = new EventEmitter();
  const signals = collectSignals(events);
  signals.stop();
  assert.deepEqual(events.eventNames(), []);
});

for (const event of ['uncaughtException', 'unhandledRejection']) {
  test(`an ${event} is logged, the log closed, and then the process ended, once`, async () => {
    const events = new EventEmitter();
    const told: string[] = [];
    const logger: Logger = {
      ...nullLogger,
      fatal: (fields, message) => void told.push(`${message}: ${String(Object.values(fields)[0])}`),
      close: () => (told.push('close()'), Promise.resolve()),
    };
    const undo = endOnCrash(events, {
      logger,
      clock: createTestClock(),
      end: () => told.push('end()'),
    });
    events.emit(event, new Error('defect'));
    events.emit(event, new Error('another'));
    await nextTurn();
    assert.deepEqual(told, ['ended by a defect: Error: defect', 'close()', 'end()']);
    undo();
    assert.deepEqual(events.eventNames(), []);
  });
}

test('a log that nobody reads does not keep the process', async () => {
  const clock = createTestClock();
  const closed = closeLogger({ ...nullLogger, close: () => new Promise(() => undefined) }, clock);
  await clock.advance(1000);
  await closed;
  assert.equal(clock.pendingCount(), 0);
});

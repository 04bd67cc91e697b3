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
} from '../../src/app/lifecycle.ts';
import { nullLogger, type Logger } from '../../src/observability/log.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';

interface Story {
  readonly events: EventEmitter;
  readonly signals: Signals;
  /** What was called and logged, in order. */
  readonly told: string[];
  readonly parts: { readonly logger: Logger; readonly clock: TestClock };
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
  const parts = { logger, clock: createTestClock() };
  return { events, signals, told, parts, sidecar, drained, stopped };
}

test('a first signal drains, then stops, and ends with code 0', async (t) => {
  const { events, signals, told, parts, sidecar, drained, stopped } = tell(t);
  const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
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

for (const second of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`a second signal, ${second}, ends at once`, async (t) => {
    const { events, signals, told, parts, sidecar } = tell(t);
    const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
    events.emit('SIGTERM', 'SIGTERM');
    events.emit(second, second);
    assert.equal(await ended, second);
    assert.ok(!told.includes('stop()'));
  });
}

test('a second signal ends a stop that hangs', async (t) => {
  const { events, signals, parts, sidecar, drained } = tell(t);
  const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
  drained.resolve(undefined);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await ended, 'SIGTERM');
});

test('a signal that came before anybody asked counts', async (t) => {
  const { events, signals } = tell(t);
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await signals.nth(1), 'SIGTERM');
});

test('a signal during the start stops what comes of it, and ends with code 0', async (t) => {
  const { events, signals, told, parts, sidecar, stopped } = tell(t);
  const starting = Promise.withResolvers<Sidecar>();
  const ended = serveUntilSignal(starting.promise, signals, parts);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  assert.deepEqual(told, ['the start is called off']);
  starting.resolve(sidecar);
  stopped.resolve(undefined);
  assert.equal(await ended, 0);
  assert.deepEqual(told, ['the start is called off', 'stop()', 'stopped']);
  assert.equal(parts.clock.pendingCount(), 0);
});

test('a start that was called off before it served ends with code 0', async (t) => {
  const { events, signals, parts } = tell(t);
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await serveUntilSignal(Promise.resolve(undefined), signals, parts), 0);
});

test('a start that hangs outlasts a signal by three seconds, and is ended by it', async (t) => {
  const { events, signals, told, parts } = tell(t);
  const ended = serveUntilSignal(new Promise(() => undefined), signals, parts);
  events.emit('SIGINT', 'SIGINT');
  await parts.clock.advance(2_999);
  assert.deepEqual(told, ['the start is called off']);
  await parts.clock.advance(1);
  assert.equal(await ended, 'SIGINT');
  assert.equal(told.at(-1), 'the start hangs');
});

test('a second signal ends a start that hangs at once', async (t) => {
  const { events, signals, parts } = tell(t);
  const ended = serveUntilSignal(new Promise(() => undefined), signals, parts);
  events.emit('SIGINT', 'SIGINT');
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await ended, 'SIGTERM');
});

test('a start that fails is the caller’s to tell, and one that fails once called off is logged', async (t) => {
  const { events, signals, told, parts } = tell(t);
  const failing = Promise.reject(new Error('port taken'));
  await assert.rejects(serveUntilSignal(failing, signals, parts), /port taken/);
  const starting = Promise.withResolvers<Sidecar>();
  const ended = serveUntilSignal(starting.promise, signals, parts);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  starting.reject(new Error('port taken'));
  assert.equal(await ended, 0);
  assert.equal(told.at(-1), 'the start failed after it was called off');
});

test('the next signal is one that is still to come', async (t) => {
  const { events, signals } = tell(t);
  assert.equal(signals.haveCome(), false);
  events.emit('SIGINT', 'SIGINT');
  const next = signals.next();
  assert.equal(signals.haveCome(), true);
  events.emit('SIGHUP', 'SIGHUP');
  assert.equal(await next, 'SIGHUP');
});

test('what goes wrong while stopping is logged and ends nothing', async (t) => {
  const { events, signals, told, parts, sidecar, drained, stopped } = tell(t);
  events.emit('SIGINT', 'SIGINT');
  drained.resolve(undefined);
  stopped.reject(new Error('busy'));
  assert.equal(await serveUntilSignal(Promise.resolve(sidecar), signals, parts), 0);
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

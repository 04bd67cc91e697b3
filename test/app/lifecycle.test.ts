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

interface Scenario {
  readonly events: EventEmitter;
  readonly signals: Signals;
  /** What was called and logged, in order. */
  readonly recorded: string[];
  readonly parts: { readonly logger: Logger; readonly clock: TestClock };
  readonly sidecar: Sidecar;
  readonly drained: PromiseWithResolvers<undefined>;
  readonly stopped: PromiseWithResolvers<undefined>;
}

function setUp(t: TestContext): Scenario {
  const events = new EventEmitter();
  const signals = collectSignals(events);
  t.after(() => signals.stop());
  const recorded: string[] = [];
  const log = (_: object, message: string): void => void recorded.push(message);
  const drained = Promise.withResolvers<undefined>();
  const stopped = Promise.withResolvers<undefined>();
  const sidecar: Sidecar = {
    ports: { public: 1, peer: 2, admin: 3 },
    readiness: () => ({ ready: true, store: { kind: 'memory' }, fleet: { kind: 'off' } }),
    drain: async () => {
      recorded.push('drain()');
      await drained.promise;
    },
    stop: async () => {
      recorded.push('stop()');
      await stopped.promise;
    },
  };
  const logger = { ...nullLogger, info: log, warn: log, error: log, fatal: log };
  const parts = { logger, clock: createTestClock() };
  return { events, signals, recorded, parts, sidecar, drained, stopped };
}

test('a first signal drains, then stops, and ends with code 0', async (t) => {
  const { events, signals, recorded, parts, sidecar, drained, stopped } = setUp(t);
  const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
  await nextTurn();
  assert.equal(recorded.length, 0);
  events.emit('SIGINT', 'SIGINT');
  await nextTurn();
  assert.deepEqual(recorded, ['draining', 'drain()']);
  drained.resolve(undefined);
  await nextTurn();
  assert.deepEqual(recorded, ['draining', 'drain()', 'stop()']);
  stopped.resolve(undefined);
  assert.equal(await ended, 0);
  assert.equal(recorded.at(-1), 'stopped');
});

for (const second of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`a second signal, ${second}, ends the process immediately`, async (t) => {
    const { events, signals, recorded, parts, sidecar } = setUp(t);
    const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
    events.emit('SIGTERM', 'SIGTERM');
    events.emit(second, second);
    assert.equal(await ended, second);
    assert.ok(!recorded.includes('stop()'));
  });
}

test('a second signal ends a stop that hangs', async (t) => {
  const { events, signals, parts, sidecar, drained } = setUp(t);
  const ended = serveUntilSignal(Promise.resolve(sidecar), signals, parts);
  drained.resolve(undefined);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await ended, 'SIGTERM');
});

test('a signal that arrived before the listener counts', async (t) => {
  const { events, signals } = setUp(t);
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await signals.nth(1), 'SIGTERM');
});

test('a signal during the start stops the started sidecar, and ends with code 0', async (t) => {
  const { events, signals, recorded, parts, sidecar, stopped } = setUp(t);
  const starting = Promise.withResolvers<Sidecar>();
  const ended = serveUntilSignal(starting.promise, signals, parts);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  assert.deepEqual(recorded, ['the start is aborted']);
  starting.resolve(sidecar);
  stopped.resolve(undefined);
  assert.equal(await ended, 0);
  assert.deepEqual(recorded, ['the start is aborted', 'stop()', 'stopped']);
  assert.equal(parts.clock.pendingCount(), 0);
});

test('a start that was aborted before it served ends with code 0', async (t) => {
  const { events, signals, parts } = setUp(t);
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await serveUntilSignal(Promise.resolve(undefined), signals, parts), 0);
});

test('a start that hangs outlasts a signal by three seconds, and is ended by it', async (t) => {
  const { events, signals, recorded, parts } = setUp(t);
  const ended = serveUntilSignal(new Promise(() => undefined), signals, parts);
  events.emit('SIGINT', 'SIGINT');
  await parts.clock.advance(2_999);
  assert.deepEqual(recorded, ['the start is aborted']);
  await parts.clock.advance(1);
  assert.equal(await ended, 'SIGINT');
  assert.equal(recorded.at(-1), 'the start hangs');
});

test('a second signal ends a start that hangs immediately', async (t) => {
  const { events, signals, parts } = setUp(t);
  const ended = serveUntilSignal(new Promise(() => undefined), signals, parts);
  events.emit('SIGINT', 'SIGINT');
  events.emit('SIGTERM', 'SIGTERM');
  assert.equal(await ended, 'SIGTERM');
});

test('a failed start is reported by the caller, and one that fails after an abort is logged', async (t) => {
  const { events, signals, recorded, parts } = setUp(t);
  const failing = Promise.reject(new Error('port taken'));
  await assert.rejects(serveUntilSignal(failing, signals, parts), /port taken/);
  const starting = Promise.withResolvers<Sidecar>();
  const ended = serveUntilSignal(starting.promise, signals, parts);
  events.emit('SIGTERM', 'SIGTERM');
  await nextTurn();
  starting.reject(new Error('port taken'));
  assert.equal(await ended, 0);
  assert.equal(recorded.at(-1), 'the start failed after it was aborted');
});

test('the next signal is a later one', async (t) => {
  const { events, signals } = setUp(t);
  assert.equal(signals.haveCome(), false);
  events.emit('SIGINT', 'SIGINT');
  const next = signals.next();
  assert.equal(signals.haveCome(), true);
  events.emit('SIGHUP', 'SIGHUP');
  assert.equal(await next, 'SIGHUP');
});

test('an error while stopping is logged and ends nothing', async (t) => {
  const { events, signals, recorded, parts, sidecar, drained, stopped } = setUp(t);
  events.emit('SIGINT', 'SIGINT');
  drained.resolve(undefined);
  stopped.reject(new Error('busy'));
  assert.equal(await serveUntilSignal(Promise.resolve(sidecar), signals, parts), 0);
  assert.equal(recorded.at(-1), 'stopping failed');
});

test('after the end signals have their default effect', () => {
  const events = new EventEmitter();
  const signals = collectSignals(events);
  signals.stop();
  assert.deepEqual(events.eventNames(), []);
});

for (const event of ['uncaughtException', 'unhandledRejection']) {
  test(`an ${event} is logged, the log closed, and then the process ended, once`, async () => {
    const events = new EventEmitter();
    const recorded: string[] = [];
    const logger: Logger = {
      ...nullLogger,
      fatal: (fields, message) =>
        void recorded.push(`${message}: ${String(Object.values(fields)[0])}`),
      close: () => (recorded.push('close()'), Promise.resolve()),
    };
    const undo = endOnCrash(events, {
      logger,
      clock: createTestClock(),
      end: () => recorded.push('end()'),
    });
    events.emit(event, new Error('defect'));
    events.emit(event, new Error('another'));
    await nextTurn();
    assert.deepEqual(recorded, ['ended by a defect: Error: defect', 'close()', 'end()']);
    undo();
    assert.deepEqual(events.eventNames(), []);
  });
}

test('a log without a reader does not keep the process running', async () => {
  const clock = createTestClock();
  const closed = closeLogger({ ...nullLogger, close: () => new Promise(() => undefined) }, clock);
  await clock.advance(1000);
  await closed;
  assert.equal(clock.pendingCount(), 0);
});

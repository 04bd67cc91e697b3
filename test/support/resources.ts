/** Tracks what this process opens, to report afterwards what was never closed. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { systemClock, type Cancel, type Clock } from '../../src/clock.ts';

export interface ResourceWatch {
  /**
   * The system clock, with its timers counted, including those that do not keep a process alive.
   */
  readonly clock: Clock;
  /** Open sockets, of both sides. */
  readonly sockets: ReadonlySet<Socket>;
  /** Pending timers of the clock. */
  timerCount(): number;
  /** Things that exist now and did not when the watch began, one line each. */
  left(): string[];
}

/** Node.js reports these when it opens them. */
const SOCKET_CHANNELS = ['net.client.socket', 'net.server.socket'];

export function watchResources(t: TestContext): ResourceWatch {
  const atFirst = countAll();
  const sockets = watchSockets(t);
  const workers = watchWorkers(t);
  const warnings = watchWarnings(t);
  const { clock, timerCount } = createCountingClock();

  function left(): string[] {
    return [
      ...warnings,
      ...[...sockets].map(
        ({ localPort, remotePort }) => `socket from ${localPort ?? '?'} to ${remotePort ?? '?'}`,
      ),
      ...[...workers].map(({ threadId }) => `worker ${threadId}`),
      ...(timerCount() > 0 ? [`${timerCount()} timers of the clock`] : []),
      ...moreThan(atFirst, countAll()),
    ];
  }

  return { clock, sockets, timerCount, left };
}

/** Closing needs a moment. Anything that waits for one of our timeouts takes longer. In ms. */
const CLOSING_MS = 3_000;

/** Resolves once nothing is left; rejects with what is still open after that moment. */
export async function untilNothingIsLeft(watch: ResourceWatch): Promise<void> {
  const deadline = performance.now() + CLOSING_MS;
  for (let left = watch.left(); left.length > 0; left = watch.left()) {
    if (performance.now() > deadline) throw new Error(`left open: ${left.join(', ')}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function watchSockets(t: TestContext): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  const onSocket = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };
  for (const channel of SOCKET_CHANNELS) subscribe(channel, onSocket);
  t.after(() => SOCKET_CHANNELS.forEach((channel) => unsubscribe(channel, onSocket)));
  return sockets;
}

function watchWorkers(t: TestContext): ReadonlySet<Worker> {
  const workers = new Set<Worker>();
  const onWorker = (worker: Worker): void => {
    workers.add(worker);
    worker.once('exit', () => workers.delete(worker));
  };
  process.on('worker', onWorker);
  t.after(() => void process.off('worker', onWorker));
  return workers;
}

/** Too many listeners, for example. */
function watchWarnings(t: TestContext): readonly string[] {
  const warnings: string[] = [];
  const onWarning = ({ name, message }: Error): number => warnings.push(`${name}: ${message}`);
  process.on('warning', onWarning);
  t.after(() => void process.off('warning', onWarning));
  return warnings;
}

function createCountingClock(): Pick<ResourceWatch, 'clock' | 'timerCount'> {
  const timers = new Set<symbol>();
  const counted = (start: (onOver: () => void) => Cancel): Cancel => {
    const timer = Symbol();
    timers.add(timer);
    const cancel = start(() => timers.delete(timer));
    return () => {
      timers.delete(timer);
      cancel();
    };
  };
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) => {
      const timer = Symbol();
      timers.add(timer);
      return systemClock.sleep(ms, signal).finally(() => timers.delete(timer));
    },
    after: (ms, fn) =>
      counted((onOver) =>
        systemClock.after(ms, () => {
          onOver();
          fn();
        }),
      ),
    every: (ms, fn) => counted(() => systemClock.every(ms, fn)),
  };
  return { clock, timerCount: () => timers.size };
}

type Counts = ReadonlyMap<string, number>;

/** What keeps the process alive, by type, and the listeners of the process. */
function countAll(): Counts {
  const counts = new Map<string, number>();
  for (const type of process.getActiveResourcesInfo()) {
    // The runner's own, and ours while we wait.
    if (type !== 'Immediate') counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  for (const name of process.eventNames()) {
    if (OURS.has(name)) continue;
    counts.set(`listener of ${String(name)}`, process.listenerCount(name));
  }
  return counts;
}

const OURS: ReadonlySet<string | symbol> = new Set(['worker', 'warning']);

function moreThan(before: Counts, now: Counts): string[] {
  return [...now].flatMap(([what, count]) => {
    const more = count - (before.get(what) ?? 0);
    return more > 0 ? [`${more} ${what}`] : [];
  });
}

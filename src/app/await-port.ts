/** Waits until a port accepts connections. */
import { connect } from 'node:net';
import type { Clock } from '../clock.ts';

export interface AwaitPortOptions {
  readonly host: string;
  readonly port: number;
  readonly clock: Clock;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** Called from time to time with the time waited so far, in ms. */
  readonly onWaiting?: (waitedMs: number) => void;
}

const PROBE_INTERVAL_MS = 50;
const PROBE_TIMEOUT_MS = 2000;
const REPORT_INTERVAL_MS = 10_000;

/** Resolves to true once a connection can be made, to false when `signal` aborts; never rejects. */
export async function awaitPort(options: AwaitPortOptions): Promise<boolean> {
  const { clock, signal, onWaiting } = options;
  const startedAt = clock.monotonicMs();
  let nextReportMs = 0;
  while (!signal.aborted) {
    if (await canConnect(options)) return true;
    const waitedMs = clock.monotonicMs() - startedAt;
    if (waitedMs >= nextReportMs) {
      onWaiting?.(Math.round(waitedMs));
      nextReportMs += REPORT_INTERVAL_MS;
    }
    await clock.sleep(PROBE_INTERVAL_MS, signal);
  }
  return false;
}

function canConnect({ host, port, clock, signal }: AwaitPortOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    const end = (isConnected: boolean): void => {
      cancelTimeout();
      socket.destroy();
      resolve(isConnected);
    };
    const cancelTimeout = clock.after(PROBE_TIMEOUT_MS, () => end(false));
    socket.once('connect', () => end(true));
    socket.on('error', () => end(false));
  });
}

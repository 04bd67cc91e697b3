/** How far something has come, on a terminal alone. */
import type { Clock } from '../../clock.ts';

export interface Progress {
  /** So many are done. */
  readonly update: (count: number) => void;
  /** Takes the line away. */
  readonly end: () => void;
}

export interface ProgressOptions {
  readonly terminal: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly clock: Clock;
  /** What is counted, in the plural. */
  readonly things: string;
}

const INTERVAL_MS = 250;
/** To the beginning of the line, and nothing behind (ECMA-48, EL). */
const CLEAR_LINE = '\r\u001b[K';

export function startProgress({ terminal, clock, things }: ProgressOptions): Progress {
  if (terminal.isTTY !== true) return { update: () => undefined, end: () => undefined };
  const startedAt = clock.monotonicMs();
  let done = 0;
  const cancel = clock.every(INTERVAL_MS, () => {
    const seconds = (clock.monotonicMs() - startedAt) / 1_000;
    const rate = Math.round(done / seconds).toLocaleString('en');
    terminal.write(`${CLEAR_LINE}${done.toLocaleString('en')} ${things}, ${rate} a second`);
  });
  return {
    update: (count) => {
      done = count;
    },
    end: () => {
      cancel();
      terminal.write(CLEAR_LINE);
    },
  };
}

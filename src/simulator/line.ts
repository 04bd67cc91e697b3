/** What lies between two ends of the simulated network, and the gates that its bytes pass. */
import { Transform } from 'node:stream';

export interface Line {
  /** `refusing`: connecting fails at once. `silent`: nothing comes through for as long as it lasts. */
  state(): 'whole' | 'refusing' | 'silent';
  /** How long what passes takes, in ms. */
  delayMs(): number;
  /** Resolves when the line is not silent, or when the signal aborts. */
  notSilent(signal?: AbortSignal): Promise<void>;
  /** Resolves after the line's delay, or when the signal aborts. */
  delayed(signal?: AbortSignal): Promise<void>;
}

/** With nothing wrong, ever. */
export const WHOLE_LINE: Line = {
  state: () => 'whole',
  delayMs: () => 0,
  notSilent: () => Promise.resolve(),
  delayed: () => Promise.resolve(),
};

/** Resolves when something that is sent now would arrive, or when the signal aborts. */
export async function arrival(line: Line, signal?: AbortSignal): Promise<void> {
  await line.notSilent(signal);
  await line.delayed(signal);
}

/**
 * Passes bytes on as the line does. Silence holds them back, and with them who sends; a delay makes
 * them late, but no fewer of them pass at once.
 */
export function createGate(line: Line): Transform {
  let onTheWay = 0;
  let latest: Promise<void> = Promise.resolve();
  const gate = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      if (line.state() !== 'silent' && line.delayMs() === 0 && onTheWay === 0) {
        done(undefined, chunk);
        return;
      }
      void line.notSilent().then(() => {
        onTheWay += 1;
        latest = Promise.all([latest, line.delayed()]).then(() => {
          onTheWay -= 1;
          if (!gate.destroyed) gate.push(chunk);
        });
        done();
      });
    },
    flush: (done) => void latest.then(() => arrival(line)).then(() => done()),
  });
  return gate;
}

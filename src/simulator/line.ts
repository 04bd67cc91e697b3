/** One direction of a simulated connection: whether, and how late, its bytes arrive; and two sockets joined by such lines. */
import { Transform } from 'node:stream';
import type { Socket } from 'node:net';

export interface Line {
  /** `refusing`: connecting fails at once. `silent`: nothing arrives while this lasts. */
  state(): 'whole' | 'refusing' | 'silent';
  /** How late bytes arrive, in ms. */
  delayMs(): number;
  /** Resolves when the line is not silent, or when the signal aborts. */
  notSilent(signal?: AbortSignal): Promise<void>;
  /** Resolves after the line's delay, or when the signal aborts. */
  delayed(signal?: AbortSignal): Promise<void>;
}

/** A line that never has a fault. */
export const WHOLE_LINE: Line = {
  state: () => 'whole',
  delayMs: () => 0,
  notSilent: () => Promise.resolve(),
  delayed: () => Promise.resolve(),
};

/** Resolves when bytes that are sent now would arrive, or when the signal aborts. */
export async function arrival(line: Line, signal?: AbortSignal): Promise<void> {
  await line.notSilent(signal);
  await line.delayed(signal);
}

/**
 * Passes bytes on as the line does. A silent line applies backpressure to the sender; a delay makes bytes
 * late, but does not limit how many are in flight.
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

/** The lines between two sockets, one for each direction. */
export interface LinePair {
  readonly there: Line;
  readonly back: Line;
}

/**
 * Pipes both ways, with backpressure. A half-close passes through: the end of one side's data ends
 * the other's, while the opposite direction stays open. A reset on one side becomes a reset on the other.
 * Both sockets must have been opened with `allowHalfOpen`.
 */
export function joinSockets(
  a: Socket,
  b: Socket,
  ways: LinePair = { there: WHOLE_LINE, back: WHOLE_LINE },
): void {
  closeTogether(a, b, ways.there);
  closeTogether(b, a, ways.back);
  a.pipe(createGate(ways.there)).pipe(b);
  b.pipe(createGate(ways.back)).pipe(a);
}

function closeTogether(from: Socket, to: Socket, line: Line): void {
  // 'close', which always follows, handles the reset.
  from.on('error', () => undefined);
  const close = (hadError: boolean): void => {
    // If both have ended, bytes in flight arrive before the end does.
    if (!hadError && from.readableEnded && from.writableEnded) return;
    void line.notSilent().then(() => {
      if (hadError) to.resetAndDestroy();
      else to.destroy();
    });
  };
  // On a slow line the socket may have closed before the two were joined.
  if (from.closed) close(from.errored !== null);
  else from.once('close', close);
}

/** Two sockets as one: what comes in at one goes out at the other. */
import type { Socket } from 'node:net';
import { createGate, WHOLE_LINE, type Line } from './line.ts';

/** What lies between the two, one way and the other. */
export interface Ways {
  readonly there: Line;
  readonly back: Line;
}

/**
 * Pipes both ways, with backpressure. A half-close passes through: the end of one side's data ends
 * the other's, and what comes back still flows. A reset on one side becomes a reset on the other.
 * Both sockets must have been opened with `allowHalfOpen`.
 */
export function splice(
  a: Socket,
  b: Socket,
  ways: Ways = { there: WHOLE_LINE, back: WHOLE_LINE },
): void {
  closeTogether(a, b, ways.there);
  closeTogether(b, a, ways.back);
  a.pipe(createGate(ways.there)).pipe(b);
  b.pipe(createGate(ways.back)).pipe(a);
}

function closeTogether(from: Socket, to: Socket, line: Line): void {
  // The reset itself is dealt with on 'close', which always follows.
  from.on('error', () => undefined);
  const close = (hadError: boolean): void => {
    // Where both have ended, what is still on the line arrives before its end does.
    if (!hadError && from.readableEnded && from.writableEnded) return;
    void line.notSilent().then(() => {
      if (hadError) to.resetAndDestroy();
      else to.destroy();
    });
  };
  // On a slow line it may have closed before the two were joined.
  if (from.closed) close(from.errored !== null);
  else from.once('close', close);
}

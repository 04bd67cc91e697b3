/** Two sockets as one: what comes in at one goes out at the other. */
import type { Socket } from 'node:net';

/**
 * Pipes both ways, with backpressure. A half-close passes through: the end of one side's data ends
 * the other's, and what comes back still flows. A reset on one side becomes a reset on the other.
 * Both sockets must have been opened with `allowHalfOpen`.
 */
export function splice(a: Socket, b: Socket): void {
  closeTogether(a, b);
  closeTogether(b, a);
  a.pipe(b);
  b.pipe(a);
}

function closeTogether(from: Socket, to: Socket): void {
  // The reset itself is dealt with on 'close', which always follows.
  from.on('error', () => undefined);
  from.once('close', (hadError) => {
    if (hadError) to.resetAndDestroy();
    else if (!to.readableEnded || !to.writableEnded) to.destroy();
  });
}

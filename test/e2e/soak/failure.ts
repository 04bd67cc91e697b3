/** A failure of a step of the load. */

interface FailureOptions {
  readonly outageWithinMs?: number;
  readonly isLater?: boolean;
}

export class Failure extends Error {
  override readonly name = 'Failure';
  /**
   * A killed app explains it if it was down at some moment of the request, or at most this many ms
   * before; undefined: nothing explains it.
   */
  readonly outageWithinMs: number | undefined;
  /** The sidecar has requested a retry: the request has reached no app. */
  readonly isLater: boolean;

  constructor(what: string, { outageWithinMs, isLater = false }: FailureOptions = {}) {
    super(what);
    this.outageWithinMs = outageWithinMs;
    this.isLater = isLater;
  }
}

/** Never valid, whatever happens to the app. */
export function wrong(what: string): Failure {
  return new Failure(what);
}

/** What a client of a killed app must expect. */
export function lost(what: string, withinMs = 0): Failure {
  return new Failure(what, { outageWithinMs: withinMs });
}

/** The same, with a request to retry. */
export function later(what: string): Failure {
  return new Failure(what, { outageWithinMs: 0, isLater: true });
}

/** Not a failure: the client has disconnected, as planned. */
export class Left extends Error {
  override readonly name = 'Left';
}

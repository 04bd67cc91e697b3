/**
 * Writes to the store that are in progress. A failing store fails no request (invariant 7): each failure is
 * reported here, and none is thrown. The shutdown waits for all of them.
 */
import type { Clock } from '../clock.ts';

export interface StoreFailure {
  /** Its name, for the log. */
  readonly operation: string;
  readonly error: unknown;
}

/** The longest wait of a response for its binding, in ms: after it the write counts as failed. */
export const COMMIT_TIMEOUT_MS = 2_000;

export class BackgroundWrites {
  readonly #clock: Pick<Clock, 'after'>;
  readonly #onFailure: (failure: StoreFailure) => void;
  readonly #inFlight = new Set<Promise<unknown>>();

  constructor(clock: Pick<Clock, 'after'>, onFailure: (failure: StoreFailure) => void) {
    this.#clock = clock;
    this.#onFailure = onFailure;
  }

  /** Resolves to the result, or to undefined after reporting a failure. */
  run<Value>(operation: string, work: Promise<Value>): Promise<Value | undefined> {
    const reported = work.catch((error: unknown) => {
      this.#onFailure({ operation, error });
      return undefined;
    });
    this.#inFlight.add(reported);
    return reported.finally(() => this.#inFlight.delete(reported));
  }

  /** As {@link run}, but a store that hangs must not hang the responses. */
  runInTime<Value>(operation: string, work: Promise<Value>): Promise<Value | undefined> {
    const reported = this.run(operation, work);
    return new Promise((resolve) => {
      const cancel = this.#clock.after(COMMIT_TIMEOUT_MS, () => {
        const error = new Error(`no commit within ${COMMIT_TIMEOUT_MS} ms`);
        this.#onFailure({ operation: 'bind', error });
        resolve(undefined);
      });
      void reported.then((value) => {
        cancel();
        resolve(value);
      });
    });
  }

  async settle(): Promise<void> {
    await Promise.all(this.#inFlight);
  }
}

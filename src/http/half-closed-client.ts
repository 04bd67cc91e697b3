/**
 * A client that has ended its side and waits for a response. It gets one with a length. A stream is ended, as
 * the client may be gone.
 */
import { HALF_CLOSE_MS, HALF_CLOSE_OLD_MS, HALF_CLOSE_PROBES } from './limits.ts';
import type { IncomingRequest } from './incoming-request.ts';

export class HalfClosedClient {
  /** Since when it waits, in ms of the sweep, whatever it reads meanwhile. */
  #since = 0;
  /** How many 102s were sent since, while the client waits for the head of a response. */
  #probeCount = 0;

  /** The client ends its side, or one that has done so gets its next request served. */
  begin(nowMs: number): void {
    this.#since = nowMs;
    this.#probeCount = 0;
  }

  /** Whether the response may still be waited for. Sends a 102 if one is due. */
  mayWait(incoming: IncomingRequest, nowMs: number): boolean {
    const waitedMs = nowMs - this.#since;
    if (waitedMs < HALF_CLOSE_MS) return true;
    if (incoming.isResponding) return !incoming.isOpenEnded;
    const { minorVersion, upgrade } = incoming.head;
    if (minorVersion === 0 || upgrade !== undefined) return waitedMs < HALF_CLOSE_OLD_MS;
    const isDue = waitedMs >= (this.#probeCount + 1) * HALF_CLOSE_MS;
    if (isDue && this.#probeCount < HALF_CLOSE_PROBES) {
      this.#probeCount += 1;
      incoming.writeProcessing();
    }
    return true;
  }
}

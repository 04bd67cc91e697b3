/**
 * How long an idle connection to an upstream may be used again (RFC 9112 §9.8). The server may close
 * it first, and a request that is sent into that is lost.
 */

/** Below the 5 s after which a node:http server closes, the shortest of the usual ones. */
export const DEFAULT_KEEP_ALIVE_MS = 4_000;
/** The server counts from earlier on, so what it says is believed less this margin, in ms. */
const MARGIN_MS = 1_000;
/** Whatever the server says: an idle connection costs both sides memory. */
const MAX_KEEP_ALIVE_MS = 60_000;

const TIMEOUT = /(?:^|[,;\s])timeout=(\d{1,9})(?:$|[,;\s])/i;

/** From the value of `Keep-Alive` to ms, 0 or less for not at all; remembers the last one. */
export function createKeepAliveRule(defaultMs: number): (keepAlive: string | undefined) => number {
  let lastText: string | undefined;
  let lastMs = defaultMs;
  return (keepAlive) => {
    // One server says the same each time.
    if (keepAlive === lastText) return lastMs;
    const seconds = keepAlive === undefined ? undefined : TIMEOUT.exec(keepAlive)?.[1];
    lastText = keepAlive;
    lastMs = seconds === undefined ? defaultMs : Number(seconds) * 1000 - MARGIN_MS;
    lastMs = Math.min(lastMs, MAX_KEEP_ALIVE_MS);
    return lastMs;
  };
}

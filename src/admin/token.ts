/** Checks whether a request to the admin listener carries `ADMIN_TOKEN`. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../clock.ts';
import { createTokenBucket } from '../fleet/rate-limits.ts';
import type { Logger } from '../observability/log.ts';

export interface TokenCheckOptions {
  readonly token: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Someone who guesses tokens causes one log line a minute, however often they try. */
const LOGGED_PER_SECOND = 1 / 60;
/** RFC 6750 §2.1; the name of the scheme is case-insensitive (RFC 9110 §11.1). */
const BEARER = /^bearer +(\S+) *$/i;

export function createTokenCheck({
  token,
  clock,
  logger,
}: TokenCheckOptions): (request: IncomingMessage) => boolean {
  const expected = digest(token);
  const mayLog = createTokenBucket({ ratePerSecond: LOGGED_PER_SECOND, burst: 1, clock });
  let refusedCount = 0;

  return ({ headers, socket }) => {
    const [, given = ''] = BEARER.exec(headers.authorization ?? '') ?? [];
    // Digests have the same length, and comparing them reveals nothing about the token.
    if (timingSafeEqual(digest(given), expected)) return true;
    refusedCount += 1;
    if (mayLog()) {
      const address = socket.remoteAddress;
      logger.warn({ address, refusedCount }, 'admin request without the right ADMIN_TOKEN');
    }
    return false;
  };
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** A small server with the session of PHP, which adopts ids that it does not know. */
import { randomBytes } from 'node:crypto';
import type { Door } from '../../apps/door.ts';
import { createSessionCookieDoor } from './session-cookie.ts';

const DIGITS = '0123456789abcdefghijklmnopqrstuv';
/** `session.sid_length` of `php.ini-production`; 5 bits a character. */
const ID_LENGTH = 26;

export function createPhpDoor(): Door {
  return createSessionCookieDoor({
    path: '/php/',
    cookie: 'PHPSESSID',
    attributes: 'HttpOnly',
    mintId: () =>
      Array.from(randomBytes(ID_LENGTH), (byte) => DIGITS[byte % DIGITS.length]).join(''),
    adoptsUnknownIds: true,
  });
}

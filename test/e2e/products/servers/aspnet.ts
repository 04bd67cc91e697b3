/** Small servers with the sessions of ASP.NET Core and of ASP.NET for the .NET Framework. */
import { randomBytes } from 'node:crypto';
import type { Door } from '../../apps/door.ts';
import { createSessionCookieDoor } from './session-cookie.ts';

/** Data protection encrypts the id; every such text begins like this. */
const PROTECTED = 'CfDJ8';
const PROTECTED_BYTES = 120;
const FRAMEWORK_ID_LENGTH = 24;
const FRAMEWORK_DIGITS = 'abcdefghijklmnopqrstuvwxyz012345';

export function createAspNetDoor(): Door {
  return createSessionCookieDoor({
    path: '/aspnet/',
    cookie: '.AspNetCore.Session',
    attributes: 'samesite=lax; httponly',
    mintId: () =>
      encodeURIComponent(PROTECTED + randomBytes(PROTECTED_BYTES).toString('base64url')),
    adoptsUnknownIds: false,
  });
}

export function createAspNetFrameworkDoor(): Door {
  return createSessionCookieDoor({
    path: '/aspnet-framework/',
    cookie: 'ASP.NET_SessionId',
    attributes: 'HttpOnly; SameSite=Lax',
    mintId: () =>
      Array.from(
        randomBytes(FRAMEWORK_ID_LENGTH),
        (byte) => FRAMEWORK_DIGITS[byte % FRAMEWORK_DIGITS.length],
      ).join(''),
    adoptsUnknownIds: true,
  });
}

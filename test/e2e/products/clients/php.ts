import type { Target } from '../../support/target.ts';
import { callAround } from './product-session.ts';
import { openCookieSession } from './session-cookie.ts';

export async function runPhp(target: Target, midway: () => Promise<void>): Promise<void> {
  await callAround(
    [await openCookieSession(target, { path: '/php/', cookie: 'PHPSESSID' })],
    midway,
  );
}

import type { Target } from '../../support/target.ts';
import { callAround } from './product-session.ts';
import { openCookieSession } from './session-cookie.ts';

export async function runAspNet(target: Target, midway: () => Promise<void>): Promise<void> {
  const core = { path: '/aspnet/', cookie: '.AspNetCore.Session' };
  await callAround([await openCookieSession(target, core)], midway);
}

export async function runAspNetFramework(
  target: Target,
  midway: () => Promise<void>,
): Promise<void> {
  const framework = { path: '/aspnet-framework/', cookie: 'ASP.NET_SessionId' };
  await callAround([await openCookieSession(target, framework)], midway);
}

/** A browser that visits a server again and again, with the cookie of its session. */
import assert from 'node:assert/strict';
import { openBrowser } from '../../support/browser.ts';
import { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import { createProductSession, type ProductSession } from './product-session.ts';

interface CookieSite {
  readonly path: string;
  readonly cookie: string;
}

/** Its first visit opens the session. */
export async function openCookieSession(
  target: Target,
  { path, cookie }: CookieSite,
): Promise<ProductSession> {
  const browser = openBrowser(target);
  const visit = async (): Promise<Counted> => {
    const response = await browser.visit(path);
    assert.equal(response.status, 200, path);
    return Counted.parse(await response.json());
  };
  const opened = await visit();
  const id = browser.cookies.get(cookie);
  assert.ok(id, `${path} sets ${cookie}`);
  return createProductSession(cookie, opened, async () => {
    const counted = await visit();
    assert.equal(browser.cookies.get(cookie), id, `${path} keeps ${cookie}`);
    return counted;
  });
}

/** A browser that logs in, fills its basket, and logs out. */
import assert from 'node:assert/strict';
import { openBrowser } from '../../support/browser.ts';
import { Counted } from '../../support/mcp-client.ts';
import type { Target } from '../../support/target.ts';
import { callAround, createProductSession } from './product-session.ts';

export async function runExpress(target: Target, midway: () => Promise<void>): Promise<void> {
  const browser = openBrowser(target);
  const visit = async (path: string): Promise<Counted> => {
    const response = await browser.visit(path);
    assert.equal(response.status, 200, path);
    return Counted.parse(await response.json());
  };
  const opened = await visit('/express/login');
  assert.ok(browser.cookies.has('connect.sid'));
  await callAround(
    [createProductSession('express', opened, () => visit('/express/basket'))],
    midway,
  );
  assert.equal((await browser.visit('/express/logout')).status, 200);
  assert.equal((await browser.visit('/express/basket')).status, 401);
}

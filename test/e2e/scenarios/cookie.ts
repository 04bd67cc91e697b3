/** A browser that logs in, fills its basket, and logs out. */
import assert from 'node:assert/strict';
import { z } from 'zod';
import { openBrowser } from '../support/browser.ts';
import { hasExpectedForm, type Target } from '../support/target.ts';

const BasketResponse = z.object({
  machine: z.string(),
  pid: z.number(),
  count: z.number(),
  cookie: z.string().optional(),
});

export async function runCookieScenario(target: Target): Promise<void> {
  const browser = openBrowser(target);
  const visit = async (path: string): Promise<z.infer<typeof BasketResponse>> =>
    BasketResponse.parse(await (await browser.visit(path)).json());

  const { machine, pid } = await visit('/login');
  const sid = browser.cookies.get('sid') ?? '';
  assert.ok(hasExpectedForm(sid, machine, target), 'the cookie and its hint');
  assert.equal(browser.cookies.get('theme'), 'dark');

  const cookie = `sid=${sid.split('~', 1)[0] ?? ''}; theme=dark`;
  for (const count of [1, 2, 3]) {
    assert.deepEqual(await visit('/basket'), { machine, pid, count, cookie });
  }
  assert.equal((await browser.visit('/logout')).status, 200);
  assert.ok(!browser.cookies.has('sid'));
  assert.equal((await browser.visit('/basket')).status, 401);
}

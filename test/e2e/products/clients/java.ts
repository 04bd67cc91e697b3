/** A browser that follows a redirect into its session; and one that keeps no cookies. */
import assert from 'node:assert/strict';
import { openBrowser } from '../../support/browser.ts';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';
import { placeIn } from './here-headers.ts';
import { callAround, createProductSession } from './product-session.ts';

const LOGIN = '/java/login';
const BASKET_IN_SESSION = /^\/java\/basket;jsessionid=[^;?]+$/;

/** The first call has the id in its path too, later ones only in the cookie. */
export async function runJava(target: Target, midway: () => Promise<void>): Promise<void> {
  const browser = openBrowser(target);
  const { response, basket } = loggedIn(await browser.visit(LOGIN, { redirect: 'manual' }));
  assert.ok(browser.cookies.has('JSESSIONID'));
  let path = basket;
  const session = createProductSession('java', countedNone(response), async () => {
    const visited = await browser.visit(path);
    assert.equal(visited.status, 200, path);
    path = '/java/basket';
    return Counted.parse(await visited.json());
  });
  await callAround([session], midway);
  assert.equal((await browser.visit('/java/logout')).status, 200);
  assert.equal((await browser.visit('/java/basket')).status, 401);
}

/** Only the paths carry the id: affinity by a cookie cannot help. */
export async function runJavaWithoutCookies(
  { url }: Target,
  midway: () => Promise<void>,
): Promise<void> {
  const { response, basket } = loggedIn(
    await retryingFetch(`${url}${LOGIN}`, { method: 'POST', redirect: 'manual' }),
  );
  const session = createProductSession('java', countedNone(response), async () => {
    const visited = await retryingFetch(`${url}${basket}`, { method: 'POST' });
    assert.equal(visited.status, 200, basket);
    return Counted.parse(await visited.json());
  });
  await callAround([session], midway);
}

function loggedIn(response: Response): { response: Response; basket: string } {
  const basket = response.headers.get('location') ?? '';
  assert.equal(response.status, 302);
  assert.match(basket, BASKET_IN_SESSION);
  return { response, basket };
}

function countedNone({ headers }: Response): Counted {
  return { ...placeIn((name) => headers.get(name)), count: 0 };
}

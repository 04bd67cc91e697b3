/** A browser that logs in, fills its basket, and logs out. */
import assert from 'node:assert/strict';
import { z } from 'zod';
import { patientFetch } from '../support/patient-fetch.ts';
import { looksRight, type Target } from '../support/target.ts';

const Answer = z.object({
  machine: z.string(),
  pid: z.number(),
  count: z.number(),
  cookie: z.string().optional(),
});

/** A cookie jar for one site: names and values, and what has expired is gone. */
interface Browser {
  readonly cookies: ReadonlyMap<string, string>;
  visit(path: string): Promise<Response>;
}

function openBrowser({ url }: Target): Browser {
  const cookies = new Map<string, string>();
  return {
    cookies,
    visit: async (path) => {
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await patientFetch(`${url}${path}`, { method: 'POST', headers: { cookie } });
      for (const line of response.headers.getSetCookie()) keep(cookies, line);
      return response;
    },
  };
}

function keep(cookies: Map<string, string>, line: string): void {
  const [, name = '', value = ''] = /^([^=]*)=([^;]*)/.exec(line) ?? [];
  if (/; *max-age=0/i.test(line)) cookies.delete(name);
  else cookies.set(name, value);
}

export async function tellCookieStory(target: Target): Promise<void> {
  const browser = openBrowser(target);
  const visit = async (path: string): Promise<z.infer<typeof Answer>> =>
    Answer.parse(await (await browser.visit(path)).json());

  const { machine, pid } = await visit('/login');
  const sid = browser.cookies.get('sid') ?? '';
  assert.ok(looksRight(sid, machine, target), 'the cookie and its hint');
  assert.equal(browser.cookies.get('theme'), 'dark');

  const cookie = `sid=${sid.split('~', 1)[0] ?? ''}; theme=dark`;
  for (const count of [1, 2, 3]) {
    assert.deepEqual(await visit('/basket'), { machine, pid, count, cookie });
  }
  assert.equal((await browser.visit('/logout')).status, 200);
  assert.ok(!browser.cookies.has('sid'));
  assert.equal((await browser.visit('/basket')).status, 401);
}

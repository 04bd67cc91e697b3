/**
 * The parts of a browser that affinity needs: it keeps cookies, and retries when the response
 * requests it.
 */
import { retryingFetch } from './retrying-fetch.ts';
import type { Target } from './target.ts';

/** A cookie jar for one site: names and values, without expired ones. */
export interface Browser {
  readonly cookies: ReadonlyMap<string, string>;
  visit(path: string, init?: Pick<RequestInit, 'redirect'>): Promise<Response>;
}

export function openBrowser({ url }: Target): Browser {
  const cookies = new Map<string, string>();
  return {
    cookies,
    visit: async (path, init) => {
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await retryingFetch(`${url}${path}`, {
        ...init,
        method: 'POST',
        headers: { cookie },
      });
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

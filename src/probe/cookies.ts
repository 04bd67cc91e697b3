/** The cookies of one session, kept as a browser does; expiry, domain and path are not looked at. */
import type { Exchange } from './http-client.ts';

interface CookieJar {
  /** Takes what a response sets. */
  keep(exchange: Exchange): void;
  /** The value of the `cookie` header; undefined if there is no cookie. */
  header(): string | undefined;
  get(name: string): string | undefined;
  values(): readonly string[];
}

const COOKIE = /^\s*([^=;\s]+)=([^;]*)/;

export function createCookieJar(): CookieJar {
  const cookies = new Map<string, string>();
  return {
    keep: (exchange) => {
      for (const [name, value] of cookiesOf(exchange)) cookies.set(name, value);
    },
    header: () =>
      cookies.size === 0
        ? undefined
        : [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
    get: (name) => cookies.get(name),
    values: () => [...cookies.values()],
  };
}

/** Names and values, in the order of the response. */
export function cookiesOf(exchange: Exchange): readonly (readonly [string, string])[] {
  const field = exchange.kind === 'response' ? exchange.headers['set-cookie'] : undefined;
  return [field ?? []].flat().flatMap((text) => {
    const [, name, value] = COOKIE.exec(text) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value.trim()] as const];
  });
}

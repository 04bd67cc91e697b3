/** The session cookies of web frameworks. */
import type { Protocol } from './protocol.ts';

/** The app's session cookie names the session, and its Machine by means of a hint. */
export function cookieProtocol(name: string, cookies: readonly string[]): Protocol {
  return {
    name,
    idLocations: cookies.map((cookie) => ({ in: 'cookie', name: cookie, mayCarryHint: true })),
    mintedBy: 'app',
    discoveries: cookies.map((cookie) => ({ from: 'set-cookie', name: cookie })),
    errorForm: 'problem',
    endsBy: 'expiring-cookie',
    isSoft: true,
    isMcp: false,
  };
}

/** Binds nothing: crawlers would fill the store, and many apps keep their sessions elsewhere. */
export function recognizedCookies(name: string, cookies: readonly string[]): Protocol {
  const bound = cookieProtocol(name, []);
  return { ...bound, recognizedCookies: cookies };
}

const JAVA_COOKIE = cookieProtocol('java', ['JSESSIONID']);

/** Jakarta Servlet 6, "Session Tracking Mechanisms": without cookies the id is a parameter of the path. */
const IN_PATH = { in: 'path', pattern: /;jsessionid=([^/;]+)/d, mark: ';jsessionid=' } as const;

export const JAVA: Protocol = {
  ...JAVA_COOKIE,
  idLocations: [...JAVA_COOKIE.idLocations, IN_PATH],
  discoveries: [...JAVA_COOKIE.discoveries, { from: 'location', idLocation: IN_PATH }],
};

export const JAVA_SHAPE: Protocol = {
  ...recognizedCookies('java', ['JSESSIONID']),
  idLocations: [IN_PATH],
  discoveries: [{ from: 'location', idLocation: IN_PATH }],
};

/**
 * Protocols whose ids are in URLs: SockJS, Jupyter, WebDriver, the DevTools protocol of browsers, tus, WHIP. Each
 * has a shape of its own, so `auto` recognizes them.
 */
import { headerMatches, headerValue, JSON_TYPE, type RequestHead } from './heads.ts';
import { pathOf } from './id-locations.ts';
import { readJsonIds } from './json-id.ts';
import { OWN_PARAMETER, readOwnParameter } from './own-parameter.ts';
import type { Protocol } from './protocol.ts';
import { decodeQueryText } from './query.ts';

const JSON_BODY = { contentType: JSON_TYPE, begin: /[\s{[]/ } as const;

/** The protocols here differ in the rest. */
const MINTED_BY_APP = { mintedBy: 'app', errorForm: 'problem', isMcp: false } as const;

/** What the paths of a transport contain, and the last parts that they have. */
const TRANSPORTS = [
  ['/websocket', 'websocket'],
  ['/xhr', 'xhr', 'xhr_streaming', 'xhr_send'],
  ['/eventsource', 'eventsource'],
  ['/htmlfile', 'htmlfile'],
  ['/jsonp', 'jsonp', 'jsonp_send'],
] as const;

/**
 * `/PREFIX/SERVER/SESSION/TRANSPORT` (SockJS protocol 0.3.3, "Session URLs"): the client mints the session, and
 * its first request opens it.
 */
function sockJs(session: string): Protocol {
  return {
    name: 'sockjs',
    // One for each mark: without one, every path would have to be searched.
    idLocations: TRANSPORTS.map(([mark, ...transports]) => {
      const pattern = new RegExp(`${session}(?:${transports.join('|')})$`, 'd');
      return { in: 'path', pattern, mark };
    }),
    mintedBy: 'client',
    discoveries: [],
    errorForm: 'problem',
    endsBy: 'expiry',
    isMcp: false,
  };
}

export const SOCKJS = sockJs('/[^/.]+/([^/.]+)/');
/** The clients' own form: a server of three digits. */
export const SOCKJS_SHAPE = sockJs('/\\d{3}/(\\w{8,36})/');

/** A UUID. */
const JUPYTER_ID = '[0-9a-f]{8}-[0-9a-f-]{27}';
const isJupyterId = isOfForm(JUPYTER_ID);

/**
 * Jupyter Server's REST API and kernel sockets. A session names a kernel, so one response reveals two ids. The
 * DELETE of either ends it. JupyterLab also lists what runs, and drops what the list lacks: these requests have no id,
 * but Jupyter's own cookie.
 */
export const JUPYTER: Protocol = {
  ...MINTED_BY_APP,
  name: 'jupyter',
  idLocations: [
    {
      in: 'path',
      pattern: new RegExp(`/api/(?:kernels|sessions)/(${JUPYTER_ID})(?:/|$)`, 'd'),
      mark: '/api/',
    },
  ],
  discoveries: [
    {
      ...JSON_BODY,
      from: 'body',
      mark: '/api/',
      withinSession: true,
      mayRevealId: ({ method, target }) =>
        (method === 'POST' && /\/api\/(?:kernels|sessions)\/?(?:\?|$)/.test(target)) ||
        (method === 'PATCH' && target.includes('/api/sessions/')),
      read: (body) => readJsonIds(body, [['id'], ['kernel', 'id']]).filter(isJupyterId),
    },
  ],
  endsBy: 'delete',
  recognizedCookies: ['_xsrf'],
};

const WEBDRIVER_ID = '[\\w-]{16,64}';
const isWebDriverId = isOfForm(WEBDRIVER_ID);
const WEBDRIVER_SESSION = new RegExp(`(?:^|/)session/(${WEBDRIVER_ID})(?:/|$)`, 'd');

/** W3C WebDriver ("New Session"), and the older JSON wire protocol. */
export const WEBDRIVER: Protocol = {
  ...MINTED_BY_APP,
  name: 'webdriver',
  idLocations: [{ in: 'path', pattern: WEBDRIVER_SESSION, mark: '/session/' }],
  discoveries: [
    {
      ...JSON_BODY,
      from: 'body',
      mark: '/session',
      mayRevealId: ({ method, target }) =>
        method === 'POST' && /(?:^|\/)session\/?(?:\?|$)/.test(target),
      read: (body) =>
        readJsonIds(body, [['value', 'sessionId'], ['sessionId']])
          .slice(0, 1)
          .filter(isWebDriverId),
    },
  ],
  errorForm: 'webdriver',
  endsBy: 'delete',
  // Other DELETEs close a window or remove a cookie.
  isEnd: ({ target }) => /\/session\/[^/?]+\/?(?:\?|$)/.test(target),
};

/** The list has a short name too, which only at the root is no document of another app. */
const DEVTOOLS_LIST = /(?:^(?:https?:\/\/[^/]+)?\/json|\/json\/(?:version|list|new))\/?(?:\?|$)/;
const DEBUGGER_URL = /\/devtools\\?\/(?:browser|page)\\?\/([\w-]{16,64})"/g;

/** The DevTools protocol of Chromium and its hosts, such as Browserless: sockets that `/json` lists. */
export const DEVTOOLS: Protocol = {
  ...MINTED_BY_APP,
  name: 'cdp',
  idLocations: [
    {
      in: 'path',
      pattern: /\/devtools\/(?:browser|page)\/([\w-]{16,64})(?:\/|$)/d,
      mark: '/devtools/',
    },
    { in: 'path', pattern: /\/json\/(?:close|activate)\/([\w-]{16,64})$/d, mark: '/json/' },
  ],
  discoveries: [
    {
      ...JSON_BODY,
      from: 'body',
      mark: '/json',
      mayRevealId: ({ target }) => DEVTOOLS_LIST.test(target),
      read: (body) => Array.from(body.matchAll(DEBUGGER_URL), ([, id = '']) => id),
    },
  ],
  endsBy: 'expiry',
};

const TUS_HEADER = 'tus-resumable';
const LAST_SEGMENT = /\/([^/]+)\/?$/d;

/** tus 1.0 (resumable uploads): every request about an upload has the header `Tus-Resumable`. */
export const TUS: Protocol = {
  ...MINTED_BY_APP,
  name: 'tus',
  idLocations: [{ in: 'head', header: TUS_HEADER, read: readUpload, inPath: LAST_SEGMENT }],
  discoveries: [
    {
      from: 'location',
      idLocation: { in: 'path', pattern: LAST_SEGMENT },
      isOfCreation: true,
      mayRevealId: (request) => request.method === 'POST' && hasTusHeader(request),
    },
  ],
  endsBy: 'delete',
};

function hasTusHeader({ rawHeaders }: RequestHead): boolean {
  return headerValue(rawHeaders, TUS_HEADER) !== undefined;
}

/** A POST creates an upload, in a collection that belongs to every Machine. */
function readUpload(request: RequestHead): string | undefined {
  if (request.method === 'POST' || !hasTusHeader(request)) return undefined;
  const upload = LAST_SEGMENT.exec(pathOf(request.target))?.[1];
  return upload && decodeQueryText(upload);
}

/** What sets its parameter off from that of other protocols. */
const WHIP_PREFIX = 'whip-';

/**
 * WHIP (RFC 9725) and WHEP: a POST of an SDP offer creates a resource, and only its `Location` tells what later
 * requests are about.
 */
export const WHIP: Protocol = {
  ...MINTED_BY_APP,
  name: 'whip',
  idLocations: [
    {
      in: 'query',
      name: OWN_PARAMETER,
      mayCarryHint: true,
      when: ({ target }) => readOwnParameter(target)?.startsWith(WHIP_PREFIX) === true,
    },
  ],
  discoveries: [
    {
      from: 'location',
      idLocation: { prefix: WHIP_PREFIX },
      isOfCreation: true,
      mayRevealId: ({ method, rawHeaders }) =>
        method === 'POST' && headerMatches(rawHeaders, 'content-type', /application\/sdp/i),
    },
  ],
  endsBy: 'delete',
};

/**
 * Requests name only ids of that form. Other apps reveal others under the same URL, such as the numbers of their
 * rows, which would fill the store.
 */
export function isOfForm(form: string): (id: string) => boolean {
  const pattern = new RegExp(`^${form}$`);
  return (id) => pattern.test(id);
}

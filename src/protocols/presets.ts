/**
 * The presets, one row each: where a protocol keeps its session id, who mints it, what reveals it, what ends
 * it and what an unknown session gets. A new protocol is a new row. Functions that a row needs stand in a file
 * of its own, such as `signalr.ts`.
 */
import { MCP_TASKS } from './mcp.ts';
import { GRADIO, GRADIO_SHAPE, KV_CACHE, RESPONSES } from './model-servers.ts';
import { OWN_PARAMETER } from './own-parameter.ts';
import type { Protocol } from './protocol.ts';
import { COLYSEUS, roomProtocol } from './room-servers.ts';
import { cookieProtocol, JAVA, JAVA_SHAPE, recognizedCookies } from './session-cookies.ts';
import { SIGNALR, SIGNALR_SHAPE } from './signalr.ts';
import { SOCKET_IO, SOCKET_IO_SHAPE } from './socket-io.ts';
import { DEVTOOLS, JUPYTER, SOCKJS, SOCKJS_SHAPE, TUS, WEBDRIVER, WHIP } from './url-sessions.ts';

export interface Preset {
  /** For people: the products that it is for. */
  readonly products: string;
  /** For people: where the id is in a request, and what reveals it. */
  readonly ids: string;
  readonly revealedBy: string;
  readonly protocols: readonly Protocol[];
  /** What `auto` has of it: what no other app can be mistaken for, or what does no harm if it is. */
  readonly auto: readonly Protocol[];
}

/** The app mints the ids, but another app may use the same shape for something else. */
function guess(protocol: Protocol): Protocol {
  return { ...protocol, isGuess: true };
}

const MCP: readonly Protocol[] = [
  {
    name: 'mcp',
    idLocations: [{ in: 'header', name: 'mcp-session-id', mayCarryHint: true }],
    mintedBy: 'app',
    discoveries: [{ from: 'header', name: 'mcp-session-id' }],
    errorForm: 'mcp',
    endsBy: 'delete',
    isMcp: true,
  },
  MCP_TASKS,
];

const MCP_SSE = {
  name: 'mcp-sse',
  idLocations: [
    { in: 'query', name: OWN_PARAMETER, mayCarryHint: true },
    { in: 'query', name: 'session_id', mayCarryHint: true },
    { in: 'query', name: 'sessionId', mayCarryHint: true },
  ],
  mintedBy: 'app',
  discoveries: [{ from: 'sse-endpoint', names: ['session_id', 'sessionId'] }],
  errorForm: 'mcp',
  endsBy: 'stream-end',
  isMcp: true,
} as const satisfies Protocol;

/** For `auto`: other apps have a `sessionId` too, such as that of a session in a database. */
const MCP_SSE_SHAPE: readonly Protocol[] = [
  { ...MCP_SSE, idLocations: MCP_SSE.idLocations.filter(({ name }) => name !== 'sessionId') },
  guess({
    ...MCP_SSE,
    idLocations: MCP_SSE.idLocations.filter(({ name }) => name === 'sessionId'),
    discoveries: [],
  }),
];

const RPC: Protocol = {
  name: 'rpc',
  idLocations: [
    // Only the header gets a hint, but a client may repeat the header's id in its queries.
    { in: 'query', name: 'session_id', mayCarryHint: true },
    { in: 'header', name: 'x-session-id', mayCarryHint: true },
  ],
  mintedBy: 'either',
  discoveries: [{ from: 'header', name: 'x-session-id' }],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
};

const ASPNET_COOKIES = ['.AspNetCore.Session', 'ASP.NET_SessionId'];

/** By the name in `SESSION_PROTOCOLS`. */
// prettier-ignore
export const PRESETS: Readonly<Record<string, Preset>> = {
  mcp: { products: 'MCP servers, Streamable HTTP', ids: 'header mcp-session-id; a task in mcp-name', revealedBy: "the response's header; the JSON of a task", protocols: MCP, auto: MCP },
  'mcp-sse': { products: 'MCP servers, HTTP with SSE', ids: 'query session_id, sessionId, or the sidecar\'s own parameter', revealedBy: 'the endpoint event of the stream', protocols: [MCP_SSE], auto: MCP_SSE_SHAPE },
  rpc: { products: 'JSON-RPC and the like', ids: 'query session_id, header x-session-id', revealedBy: "the response's header; or the client's id, once accepted", protocols: [RPC], auto: [RPC] },
  'socket.io': { products: 'Socket.IO 2 to 4, Engine.IO', ids: 'query sid', revealedBy: 'the body of the first polling response', protocols: [SOCKET_IO], auto: [SOCKET_IO_SHAPE] },
  sockjs: { products: 'SockJS, Spring, Vert.x', ids: 'path PREFIX/SERVER/ID/TRANSPORT', revealedBy: "the client's id, once accepted", protocols: [SOCKJS], auto: [SOCKJS_SHAPE] },
  signalr: { products: 'SignalR, Blazor Server', ids: 'query id', revealedBy: 'the JSON of POST .../negotiate', protocols: [SIGNALR], auto: [guess(SIGNALR_SHAPE)] },
  jupyter: { products: 'Jupyter Server, Lab, Notebook', ids: 'path .../api/kernels/ID, .../api/sessions/ID', revealedBy: 'the JSON of POST to these', protocols: [JUPYTER], auto: [guess(JUPYTER)] },
  webdriver: { products: 'Selenium, ChromeDriver, Appium', ids: 'path .../session/ID', revealedBy: 'the JSON of POST .../session', protocols: [WEBDRIVER], auto: [guess(WEBDRIVER)] },
  cdp: { products: 'Chromium, Browserless', ids: 'path /devtools/browser/ID, /devtools/page/ID', revealedBy: 'the JSON of /json/version, /json/list, /json/new', protocols: [DEVTOOLS], auto: [guess(DEVTOOLS)] },
  tus: { products: 'tus uploads', ids: 'last part of the path, with Tus-Resumable', revealedBy: 'the Location of POST', protocols: [TUS], auto: [guess(TUS)] },
  whip: { products: 'WHIP and WHEP', ids: "the sidecar's own parameter in the query", revealedBy: 'the Location of POST application/sdp', protocols: [WHIP], auto: [WHIP] },
  colyseus: { products: 'Colyseus', ids: 'query sessionId of a WebSocket; path /matchmake/joinById/ID', revealedBy: 'the JSON of POST /matchmake/...', protocols: [COLYSEUS], auto: [guess(COLYSEUS)] },
  yjs: { products: 'y-websocket', ids: 'query room, else the path, of a WebSocket', revealedBy: "the client's id, once accepted", protocols: [roomProtocol('yjs')], auto: [] },
  hocuspocus: { products: 'Hocuspocus with a room in the URL', ids: 'query room, else the path, of a WebSocket', revealedBy: "the client's id, once accepted", protocols: [roomProtocol('hocuspocus')], auto: [] },
  gradio: { products: 'Gradio', ids: 'query or body session_hash; path .../call/NAME/ID, .../heartbeat/ID', revealedBy: "the client's id, once accepted; the JSON of POST /call/NAME", protocols: GRADIO, auto: GRADIO_SHAPE },
  responses: { products: "OpenAI's Responses API, vLLM", ids: 'body previous_response_id; path .../responses/ID', revealedBy: 'the JSON or the first event of POST .../responses', protocols: [RESPONSES], auto: [guess(RESPONSES)] },
  'kv-cache': { products: 'prompt caches of LLM servers', ids: 'body prompt_cache_key, user', revealedBy: "the client's id, once accepted", protocols: [KV_CACHE], auto: [] },
  express: { products: 'express-session', ids: 'cookie connect.sid', revealedBy: 'set-cookie', protocols: [cookieProtocol('express', ['connect.sid'])], auto: [recognizedCookies('express', ['connect.sid'])] },
  java: { products: 'Tomcat, Jetty, Spring Boot', ids: 'cookie JSESSIONID, path ;jsessionid=ID', revealedBy: 'set-cookie, Location', protocols: [JAVA], auto: [guess(JAVA_SHAPE)] },
  php: { products: 'PHP', ids: 'cookie PHPSESSID', revealedBy: 'set-cookie', protocols: [cookieProtocol('php', ['PHPSESSID'])], auto: [recognizedCookies('php', ['PHPSESSID'])] },
  aspnet: { products: 'ASP.NET sessions', ids: `cookie ${ASPNET_COOKIES.join(', ')}`, revealedBy: 'set-cookie', protocols: [cookieProtocol('aspnet', ASPNET_COOKIES)], auto: [recognizedCookies('aspnet', ASPNET_COOKIES)] },
};

/** Their names of parameters are common ones, so an id that fits another protocol is that protocol's. */
const READ_LAST: ReadonlySet<string> = new Set(['mcp-sse', 'rpc']);

/** `auto`: what a request or a response shows by its shape, in the order in which ids are looked for. */
export const AUTO: readonly Protocol[] = [
  ...rowsOf((name) => !READ_LAST.has(name)),
  ...rowsOf((name) => READ_LAST.has(name)),
];

function rowsOf(isWanted: (name: string) => boolean): readonly Protocol[] {
  return Object.entries(PRESETS)
    .flatMap(([name, { auto }]) => (isWanted(name) ? auto : []))
    .map((row) => ({ ...row, isOfAuto: true }));
}

/** The preset that has the protocol of that name; undefined for one that a setting spells. */
export function presetOf(protocolName: string): string | undefined {
  const found = Object.entries(PRESETS).find(([, { protocols }]) =>
    protocols.some(({ name }) => name === protocolName),
  );
  return found?.[0];
}

/**
 * Requests of the user's own: one that opens a session, and one that is made in it. The session travels in cookies
 * and session headers, and wherever a placeholder stands: `{session}` is an id that this client chooses,
 * `{location}` the path in the `Location` of the first response, and `{/a/b}` a value in its JSON (RFC 6901).
 */
import { randomUUID } from 'node:crypto';
import { parsePointer, readJsonId } from '../protocols/json-id.ts';
import { PRESETS } from '../protocols/presets.ts';
import { createCookieJar } from './cookies.ts';
import type {
  Exchange,
  HeaderFields,
  ProbeClient,
  ProbeRequest,
  ProbeResponse,
} from './http-client.ts';
import { lossOf, describeExchange, shownKeyOf } from './loss.ts';
import type { Call, Loss, Opening, Probe, ProbeSession } from './probe.ts';
import { newSessionLoss, sessionCookieOf } from './session-cookie.ts';
import { SWITCHING_PROTOCOLS, WEBSOCKET } from './websocket.ts';

interface OwnRequests {
  /** Undefined: the first call opens the session. */
  readonly open?: ProbeRequest;
  readonly call: ProbeRequest;
}

export function createOwnRequestProbe(requests: OwnRequests): Probe {
  const { method, target } = requests.open ?? requests.call;
  return {
    preset: undefined,
    where: `${method} ${target}`,
    open: (client) => open(client, requests),
  };
}

/** Headers in which apps return a new session's id. */
const SESSION_HEADERS: readonly string[] = Object.values(PRESETS).flatMap(({ protocols }) =>
  protocols
    .flatMap(({ discoveries }) => discoveries)
    .flatMap((discovery) =>
      discovery.from === 'header' && discovery.isPlain === undefined ? [discovery.name] : [],
    ),
);

async function open(client: ProbeClient, requests: OwnRequests): Promise<Opening> {
  const own = randomUUID();
  const opening = filled(requests.open ?? requests.call, { session: own });
  const opened = await client.send(opening.request);
  const isAccepted = opened.kind === 'response' && opened.status < 400;
  const noWebSocket = noWebSocketLoss(opening.request, opened);
  if (!isAccepted || noWebSocket) {
    const why = noWebSocket?.why ?? describeExchange(opened);
    return { kind: 'refused', why: `the app answers ${why}`, exchange: opened };
  }
  const call = filled(requests.call, { session: own, response: opened });
  if (call.missing !== undefined) {
    const why = `the first response has nothing at {${call.missing}}`;
    return { kind: 'refused', why, exchange: opened };
  }
  const state = createSessionState(opened);
  const id = call.placed ?? opening.placed ?? state.id();
  if (id === undefined) {
    return {
      kind: 'stateless',
      what: `the request has no {session}, and its response neither a cookie nor ${SESSION_HEADERS.join(' or ')}`,
    };
  }
  return { kind: 'opened', session: sessionOf(client, call.request, { id, state, opened }) };
}

interface OwnSession {
  readonly id: string;
  readonly state: SessionState;
  readonly opened: Exchange;
}

function sessionOf(
  client: ProbeClient,
  request: ProbeRequest,
  { id, state, opened }: OwnSession,
): ProbeSession {
  const call = async (): Promise<Call> => {
    const headers = { ...request.headers, ...state.headers() };
    const exchange = await client.send({ ...request, headers });
    const loss =
      state.keep(exchange) ??
      lossOf(exchange, [id, ...state.values()]) ??
      noWebSocketLoss(request, exchange);
    return { exchange, loss };
  };
  return { key: shownKeyOf(id), opened, call, close: () => Promise.resolve() };
}

/** An app that takes no WebSocket there may answer as to any request. */
function noWebSocketLoss({ method }: ProbeRequest, exchange: Exchange): Loss | undefined {
  if (method !== WEBSOCKET || exchange.kind === 'no-response') return undefined;
  const { status } = exchange;
  if (status === SWITCHING_PROTOCOLS || status >= 400) return undefined;
  return { how: 'error', why: `${status} in place of a WebSocket` };
}

/** Of what a response sets, `dark` or `1` is no id, and stands in other words. */
const MIN_ID_CHARACTERS = 8;

/** What a client keeps of the responses, and sends back. */
interface SessionState {
  headers(): HeaderFields;
  /** Undefined: the responses have revealed none. */
  id(): string | undefined;
  /** All that is sent back: any of it may be the id. */
  values(): readonly string[];
  /** Takes what a response sets; returns whether that is another session. */
  keep(exchange: Exchange): Loss | undefined;
}

function createSessionState(opened: ProbeResponse): SessionState {
  const jar = createCookieJar();
  jar.keep(opened);
  const cookie = sessionCookieOf(opened);
  const fields = new Map<string, string>(sessionFieldsOf(opened));
  return {
    headers: () => {
      const cookies = jar.header();
      return { ...Object.fromEntries(fields), ...(cookies !== undefined && { cookie: cookies }) };
    },
    id: () => [...fields.values()][0] ?? jar.get(cookie ?? '') ?? jar.header(),
    values: () =>
      [...fields.values(), ...jar.values()].filter(({ length }) => length >= MIN_ID_CHARACTERS),
    keep: (exchange) => {
      const before = new Map(fields);
      for (const [name, value] of sessionFieldsOf(exchange)) fields.set(name, value);
      const cookieBefore = jar.get(cookie ?? '');
      jar.keep(exchange);
      const inHeaders = [...before].map(([name, value]) =>
        newSessionLoss(name, value, fields.get(name)),
      );
      if (cookie !== undefined)
        inHeaders.push(newSessionLoss(cookie, cookieBefore, jar.get(cookie)));
      return inHeaders.find((loss) => loss !== undefined);
    },
  };
}

function sessionFieldsOf(exchange: Exchange): readonly (readonly [string, string])[] {
  if (exchange.kind === 'no-response') return [];
  return SESSION_HEADERS.flatMap((name) => {
    const value = exchange.headers[name]?.toString();
    return value === undefined ? [] : [[name, value] as const];
  });
}

const PLACEHOLDER = /\{(session|location|\/[^{}]*)\}/g;

interface Filled {
  readonly request: ProbeRequest;
  /** The first value that stands in place of a placeholder. */
  readonly placed: string | undefined;
  /** The first placeholder without a value. */
  readonly missing: string | undefined;
}

function filled(
  request: ProbeRequest,
  source: { readonly session: string; readonly response?: ProbeResponse },
): Filled {
  let placed: string | undefined;
  let missing: string | undefined;
  const fill = (text: string): string =>
    text.replace(PLACEHOLDER, (whole, name: string) => {
      const value = name === 'session' ? source.session : valueIn(source.response, name);
      // Of a path, its last part is the id.
      placed ??= name === 'location' ? value?.split('?', 1)[0]?.split('/').at(-1) : value;
      if (value === undefined) missing ??= name;
      return value ?? whole;
    });
  const headers = Object.entries(request.headers ?? {}).map(([name, text]) => [name, fill(text)]);
  const whole = {
    ...request,
    target: fill(request.target),
    headers: Object.fromEntries(headers) as HeaderFields,
    ...(request.body !== undefined && { body: fill(request.body) }),
  };
  return { request: whole, placed, missing };
}

function valueIn(response: ProbeResponse | undefined, name: string): string | undefined {
  if (!response) return undefined;
  if (name === 'location') return pathOf(response.headers.location?.toString());
  const pointer = parsePointer(name);
  const bytes = Buffer.from(response.body, 'utf8').toString('latin1');
  const value = pointer && readJsonId(bytes, pointer);
  return value === undefined ? undefined : Buffer.from(value, 'latin1').toString('utf8');
}

/** Path and query: the request goes to the same origin. */
function pathOf(location: string | undefined): string | undefined {
  if (location === undefined || !URL.canParse(location, 'http://app')) return undefined;
  const { pathname, search } = new URL(location, 'http://app');
  return pathname + search;
}

/** Helpers of this folder: raw clients, recording apps, and a response parser. */
import {
  createServer,
  get as httpGet,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import type { TestContext } from 'node:test';
import { text as textOf } from 'node:stream/consumers';
import { type RawClient } from '../../support/raw.ts';
import { serve } from '../../support/sidecar.ts';

/** Time limit of a test that waits forever. A passing test takes far less. */
export const BOUNDED = { timeout: 30_000 };

/** The ports of a sidecar, in this process or another. */
export interface Ports {
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
}

interface Listening {
  readonly ports: Ports;
}

/** The text of a request; `fields` are whole lines. */
export function requestText(method: string, target: string, ...fields: string[]): string {
  const lines = [`${method} ${target} HTTP/1.1`, 'Host: a', ...fields];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

export const get = (target: string, ...fields: string[]): string =>
  requestText('GET', target, ...fields);

export const post = (target: string, body: string, ...fields: string[]): string =>
  requestText('POST', target, `Content-Length: ${body.length}`, ...fields) + body;

export const postInChunks = (target: string, body: string, ...fields: string[]): string =>
  requestText('POST', target, 'Transfer-Encoding: chunked', ...fields) + chunksOf(body);

/** The body in two chunks. */
function chunksOf(body: string): string {
  const half = Math.ceil(body.length / 2);
  const parts = [body.slice(0, half), body.slice(half)].filter((part) => part !== '');
  return `${parts.map(chunk).join('')}0\r\n\r\n`;
}

export const chunk = (part: string): string => `${part.length.toString(16)}\r\n${part}\r\n`;

export const UPGRADE_FIELDS = ['Connection: Upgrade', 'Upgrade: websocket'] as const;

export interface ReceivedResponse {
  readonly status: number;
  /** By lower-case name. Values of repeated names are joined with a comma. */
  readonly fields: ReadonlyMap<string, string>;
  /** Decoded. */
  readonly body: string;
}

export interface Received {
  /** The complete responses without 1xx. A 101 is the last. */
  readonly responses: readonly ReceivedResponse[];
  /** The remaining bytes: a part of a response, or the bytes of a tunnel. */
  readonly rest: string;
}

/** Parses the bytes that a client received as responses to these methods, in order. The default is GET. */
export function readResponses(received: string, methods: readonly string[] = []): Received {
  const responses: ReceivedResponse[] = [];
  let rest = received;
  for (;;) {
    const taken = takeResponse(rest, methods[responses.length] ?? 'GET');
    if (!taken) return { responses, rest };
    rest = taken.rest;
    if (taken.response.status >= 200 || taken.response.status === 101) {
      responses.push(taken.response);
    }
    if (taken.response.status === 101) return { responses, rest };
  }
}

interface TakenResponse {
  readonly response: ReceivedResponse;
  readonly rest: string;
}

function takeResponse(text: string, method: string): TakenResponse | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1]);
  if (Number.isNaN(status)) throw new Error(`no status line: ${JSON.stringify(statusLine)}`);
  const fields = fieldsOf(lines);
  const taken = takeBody(text.slice(end + 4), status, method, fields);
  return taken && { response: { status, fields, body: taken.body }, rest: taken.rest };
}

function fieldsOf(lines: readonly string[]): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return fields;
}

interface TakenBody {
  readonly body: string;
  readonly rest: string;
}

/** RFC 9112 §6.3. Undefined while the body is incomplete, so always for a body that ends when the connection closes. */
function takeBody(
  text: string,
  status: number,
  method: string,
  fields: ReadonlyMap<string, string>,
): TakenBody | undefined {
  const hasNone = method === 'HEAD' || status < 200 || status === 204 || status === 304;
  if (hasNone) return { body: '', rest: text };
  if (fields.has('transfer-encoding')) return takeChunks(text);
  const length = Number(fields.get('content-length') ?? Infinity);
  if (text.length < length) return undefined;
  return { body: text.slice(0, length), rest: text.slice(length) };
}

function takeChunks(text: string): TakenBody | undefined {
  let body = '';
  let rest = text;
  for (;;) {
    const line = /^([0-9a-f]+)[^\r\n]*\r\n/i.exec(rest);
    if (!line) return undefined;
    const size = parseInt(line[1] ?? '', 16);
    if (size === 0) return takeTrailers(body, rest.slice(line[0].length));
    const end = line[0].length + size;
    if (rest.length < end + 2) return undefined;
    body += rest.slice(line[0].length, end);
    rest = rest.slice(end + 2);
  }
}

function takeTrailers(body: string, text: string): TakenBody | undefined {
  if (text.startsWith('\r\n')) return { body, rest: text.slice(2) };
  const end = text.indexOf('\r\n\r\n');
  return end < 0 ? undefined : { body, rest: text.slice(end + 4) };
}

/** Waits for `count` complete responses. */
export async function untilResponses(
  client: RawClient,
  count: number,
  methods: readonly string[] = [],
): Promise<readonly ReceivedResponse[]> {
  const isThere = (text: string): boolean => readResponses(text, methods).responses.length >= count;
  return readResponses(await client.until(isThere), methods).responses;
}

/** Waits for the end of the connection, and returns everything received. */
export async function untilEnded(
  client: RawClient,
  methods: readonly string[] = [],
): Promise<Received> {
  return readResponses(await client.untilClosed(), methods);
}

/** A response in one line. */
export const summaryOf = ({ status, body }: ReceivedResponse): string => `${status} ${body}`.trim();

export function hasConnectionClose({ fields }: ReceivedResponse): boolean {
  return (fields.get('connection') ?? '').toLowerCase().split(/ *, */).includes('close');
}

export interface RecordingApp {
  readonly port: number;
  readonly server: Server;
  /** Method and target of each request, recorded when its head arrives. */
  readonly seen: readonly string[];
  /** The maximum number of concurrent requests. */
  readonly mostAtOnce: () => number;
  /** The number of connections accepted. */
  readonly connectionCount: () => number;
}

/** An app that records its requests, and responds with {@link echo} by default. */
export async function serveRecordingApp(
  t: TestContext,
  listener: RequestListener = echo,
): Promise<RecordingApp> {
  const seen: string[] = [];
  let [active, mostAtOnce, connectionCount] = [0, 0, 0];
  const server = createServer((req, res) => {
    seen.push(`${req.method ?? ''} ${req.url ?? ''}`);
    active += 1;
    mostAtOnce = Math.max(mostAtOnce, active);
    res.once('close', () => (active -= 1));
    listener(req, res);
  });
  server.on('connection', () => (connectionCount += 1));
  return {
    port: await serve(t, server),
    server,
    seen,
    mostAtOnce: () => mostAtOnce,
    connectionCount: () => connectionCount,
  };
}

/** Responds 200 with method, target and body of the request. An aborted body gets no response. */
export const echo: RequestListener = (req, res) => {
  bodyOf(req).then(
    (body) => res.end(`${req.method ?? ''} ${req.url ?? ''} ${body}`.trim()),
    () => res.destroy(),
  );
};

export const bodyOf = (message: IncomingMessage): Promise<string> => textOf(message);

/** Data sent within this process arrives within a few turns of its event loop. */
const ROUND_TRIPS = 10;
/** An event that takes longer than this never happens. */
const MANY_ROUND_TRIPS = 1_000;

/** Resolves when all data in flight within this process has arrived: for assertions that nothing arrives. */
export async function untilArrived(sidecar: Listening): Promise<void> {
  for (let i = 0; i < ROUND_TRIPS; i += 1) await makeRoundTrip(sidecar);
}

/** Waits until `what` is true. Rejects if it is not within many turns of the event loop. */
export async function eventually(
  sidecar: Listening,
  holds: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  for (let i = 0; i < MANY_ROUND_TRIPS; i += 1) {
    if (await holds()) return;
    await makeRoundTrip(sidecar);
  }
  throw new Error(`never: ${what}`);
}

/**
 * A response of the admin listener, in the same process, shows that the event loop has turned. With
 * `node:http`, as `fetch` takes more CPU time, and there are tens of thousands.
 */
function makeRoundTrip({ ports }: Listening): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: ports.admin, path: '/livez' };
    httpGet(options, (res) => void res.resume().once('end', resolve)).once('error', reject);
  });
}

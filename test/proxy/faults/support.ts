/** What the tests of this folder share: raw clients, apps that keep a list, responses read out of bytes. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { TestContext } from 'node:test';
import { text as textOf } from 'node:stream/consumers';
import { openRawClient, type RawClient } from '../../support/raw.ts';
import { serve } from '../../support/sidecar.ts';

/** Ends a test that waits for what never comes. Nothing that is right comes near it. */
export const BOUNDED = { timeout: 30_000 };

/** As a sidecar and a process that runs one tell them. */
export interface Ports {
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
}

export interface Listening {
  readonly ports: Ports;
}

/** A raw client that is destroyed after the test. */
export async function openClient(t: TestContext, port: number): Promise<RawClient> {
  const client = await openRawClient(port);
  t.after(() => client.socket.destroy());
  return client;
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

/** In two chunks, so that there is a border between them. */
function chunksOf(body: string): string {
  const half = Math.ceil(body.length / 2);
  const parts = [body.slice(0, half), body.slice(half)].filter((part) => part !== '');
  return `${parts.map(chunk).join('')}0\r\n\r\n`;
}

export const chunk = (part: string): string => `${part.length.toString(16)}\r\n${part}\r\n`;

export const UPGRADE_FIELDS = ['Connection: Upgrade', 'Upgrade: websocket'] as const;

export interface ReceivedResponse {
  readonly status: number;
  /** By lower-case name; the values of repeated names are joined by a comma. */
  readonly fields: ReadonlyMap<string, string>;
  /** Decoded. */
  readonly body: string;
}

export interface Received {
  /** Those that are complete, without 1xx; a 101 is the last. */
  readonly responses: readonly ReceivedResponse[];
  /** What follows: a part of a response, or the bytes of a tunnel. */
  readonly rest: string;
}

/** Reads a client's bytes as responses to requests of these methods, in order; of GET beyond them. */
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

/** RFC 9112 §6.3; undefined as long as it is not complete, so for ever if it ends with its connection. */
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

/** Waits for so many complete responses. */
export async function untilResponses(
  client: RawClient,
  count: number,
  methods: readonly string[] = [],
): Promise<readonly ReceivedResponse[]> {
  const isThere = (text: string): boolean => readResponses(text, methods).responses.length >= count;
  return readResponses(await client.until(isThere), methods).responses;
}

/** Waits for the end of the connection, and says all that has come until then. */
export async function untilEnded(
  client: RawClient,
  methods: readonly string[] = [],
): Promise<Received> {
  return readResponses(await client.untilClosed(), methods);
}

/** A response in one line. */
export const summaryOf = ({ status, body }: ReceivedResponse): string => `${status} ${body}`.trim();

export function saysClose({ fields }: ReceivedResponse): boolean {
  return (fields.get('connection') ?? '').toLowerCase().split(/ *, */).includes('close');
}

export interface RecordingApp {
  readonly port: number;
  readonly server: Server;
  /** Method and target of each request, as its head came. */
  readonly seen: readonly string[];
  /** How many requests were ever under way at once. */
  readonly mostAtOnce: () => number;
  /** Connections that were ever made to it. */
  readonly connectionCount: () => number;
}

/** An app that records its requests, and responds with {@link echo} by default. */
export async function serveRecordingApp(
  t: TestContext,
  listener: RequestListener = echo,
): Promise<RecordingApp> {
  const seen: string[] = [];
  let [underWay, mostAtOnce, connectionCount] = [0, 0, 0];
  const server = createServer((req, res) => {
    seen.push(`${req.method ?? ''} ${req.url ?? ''}`);
    underWay += 1;
    mostAtOnce = Math.max(mostAtOnce, underWay);
    res.once('close', () => (underWay -= 1));
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

/** 200, with method, target and body of the request; a body that breaks off gets nothing. */
export const echo: RequestListener = (req, res) => {
  bodyOf(req).then(
    (body) => res.end(`${req.method ?? ''} ${req.url ?? ''} ${body}`.trim()),
    () => res.destroy(),
  );
};

export const bodyOf = (message: IncomingMessage): Promise<string> => textOf(message);

/** What was sent inside of this process takes few turns of its event loop to arrive. */
const ROUND_TRIPS = 10;
/** What takes so many never happens. */
const MANY_ROUND_TRIPS = 1_000;

/** Resolves when all that was on its way inside this process has arrived: for claims that nothing comes. */
export async function untilArrived(sidecar: Listening): Promise<void> {
  for (let i = 0; i < ROUND_TRIPS; i += 1) await makeRoundTrip(sidecar);
}

/** Waits until `what` holds; rejects if it does not within many turns of the event loop. */
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

/** The admin listener responds from the same process, so that its event loop has turned. */
async function makeRoundTrip({ ports }: Listening): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${ports.admin}/livez`);
  await response.text();
}

/**
 * For the tests of HTTP/1.1 from outside: a sidecar between a client and an app that are both bare
 * sockets, and a lenient reader of the messages that they receive.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { openFleet } from '../../support/fleet.ts';
import { openRawClient, type RawClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';

export type Field = readonly [name: string, value: string];

export interface Message {
  readonly startLine: string;
  /** Names as they came, values without the white space around them. */
  readonly fields: readonly Field[];
  /** Without its chunks. */
  readonly body: string;
  readonly trailers: readonly Field[];
}

interface Messages {
  readonly messages: readonly Message[];
  /** What is no complete message yet. */
  readonly rest: string;
}

export function requestsIn(text: string): Messages {
  return messagesIn(text, ({ fields }) => framingOf(fields) ?? 0);
}

/** `methods`: of the requests, in order; GET where none is given. */
export function responsesIn(text: string, methods: readonly string[] = []): Messages {
  let answered = 0;
  return messagesIn(text, ({ startLine, fields }) => {
    const status = statusOf(startLine);
    if (status < 200) return 0;
    const method = methods[answered];
    answered += 1;
    if (method === 'HEAD' || status === 204 || status === 304) return 0;
    return framingOf(fields) ?? 'until-close';
  });
}

/** 0 where the line is no status line. */
export function statusOf(startLine: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})(?: |$)/.exec(startLine)?.[1] ?? 0);
}

/** All values of a field, in order. */
export function valuesOf({ fields }: Pick<Message, 'fields'>, lowerName: string): string[] {
  return fields.filter(([name]) => name.toLowerCase() === lowerName).map(([, value]) => value);
}

type Framing = 'chunked' | 'until-close' | number;
type Head = Pick<Message, 'startLine' | 'fields'>;

function messagesIn(text: string, framing: (head: Head) => Framing): Messages {
  const messages: Message[] = [];
  let rest = text;
  for (let read = readMessage(rest, framing); read; read = readMessage(rest, framing)) {
    messages.push(read.message);
    rest = read.rest;
  }
  return { messages, rest };
}

interface Read {
  readonly message: Message;
  readonly rest: string;
}

function readMessage(text: string, framing: (head: Head) => Framing): Read | undefined {
  const start = /^(?:\r\n)*/.exec(text)?.[0].length ?? 0;
  const end = text.indexOf('\r\n\r\n', start);
  if (end === -1) return undefined;
  const [startLine = '', ...lines] = text.slice(start, end).split('\r\n');
  const head = { startLine, fields: lines.map(fieldOf) };
  const body = readBody(text.slice(end + 4), framing(head));
  return (
    body && { message: { ...head, body: body.body, trailers: body.trailers }, rest: body.rest }
  );
}

function fieldOf(line: string): Field {
  const colon = line.indexOf(':');
  return [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')];
}

function framingOf(fields: readonly Field[]): Framing | undefined {
  const valueOf = (name: string): string | undefined => valuesOf({ fields }, name)[0];
  if (valueOf('transfer-encoding')?.toLowerCase() === 'chunked') return 'chunked';
  const length = valueOf('content-length');
  return length === undefined ? undefined : Number(length);
}

interface Body {
  readonly body: string;
  readonly trailers: readonly Field[];
  readonly rest: string;
}

function readBody(text: string, framing: Framing): Body | undefined {
  if (framing === 'chunked') return readChunks(text);
  if (framing === 'until-close') return { body: text, trailers: [], rest: '' };
  if (text.length < framing) return undefined;
  return { body: text.slice(0, framing), trailers: [], rest: text.slice(framing) };
}

function readChunks(text: string): Body | undefined {
  let [body, rest] = ['', text];
  for (;;) {
    const [line, hex = ''] = /^([0-9a-f]+)[^\r\n]*\r\n/i.exec(rest) ?? [];
    if (line === undefined) return undefined;
    rest = rest.slice(line.length);
    const size = parseInt(hex, 16);
    if (size === 0) break;
    if (rest.length < size + 2) return undefined;
    body += rest.slice(0, size);
    rest = rest.slice(size + 2);
  }
  const [all, lines] = /^((?:[^\r\n]+\r\n)*)\r\n/.exec(rest) ?? [];
  if (all === undefined || lines === undefined) return undefined;
  const trailers = lines.split('\r\n').slice(0, -1).map(fieldOf);
  return { body, trailers, rest: rest.slice(all.length) };
}

export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** Writes the response to a complete request, or does something else with its socket. */
export type Respond = (socket: Socket, request: Message) => void;

export interface RecordingApp {
  readonly port: number;
  /** Complete requests, in the order of their arrival. */
  readonly requests: readonly Message[];
  /** Beginnings of requests that are not complete. */
  readonly unfinished: () => readonly string[];
}

export async function serveRecordingApp(
  t: TestContext,
  respond: Respond = (socket) => socket.write(OK),
): Promise<RecordingApp> {
  const requests: Message[] = [];
  const unfinished = new Map<Socket, string>();
  const port = await serveRawApp(t, (socket, chunk) => {
    const { messages, rest } = requestsIn((unfinished.get(socket) ?? '') + chunk);
    unfinished.set(socket, rest);
    for (const request of messages) {
      requests.push(request);
      if (request.startLine.startsWith('GET /barrier ')) socket.write(OK);
      else respond(socket, request);
    }
  });
  return {
    port,
    requests,
    unfinished: () => [...unfinished.values()].filter((rest) => rest !== ''),
  };
}

export interface Wire {
  /** Of the public listener. */
  readonly port: number;
  readonly app: RecordingApp;
  readonly connect: () => Promise<RawClient>;
  /** Sends it on a connection of its own; resolves with the responses once the sidecar has closed it. */
  readonly exchange: (sent: string, methods?: readonly string[]) => Promise<Messages>;
  /** Whatever was on its way to the app has arrived when it resolves. */
  readonly barrier: () => Promise<void>;
}

export interface WireOptions {
  readonly respond?: Respond;
  readonly env?: Readonly<Record<string, string>>;
}

export async function startWire(
  t: TestContext,
  { respond, env = {} }: WireOptions = {},
): Promise<Wire> {
  const app = await serveRecordingApp(t, respond);
  const sidecar = await startTestSidecar(t, app.port, env);
  return wireTo(t, sidecar.ports.public, app);
}

/** The listener of some sidecar behind which the app is. */
export function wireTo(t: TestContext, port: number, app: RecordingApp): Wire {
  async function connect(): Promise<RawClient> {
    const client = await openRawClient(port);
    t.after(() => client.socket.destroy());
    return client;
  }

  async function exchange(sent: string, methods?: readonly string[]): Promise<Messages> {
    const client = await connect();
    client.send(sent);
    return responsesIn(await client.untilClosed(), methods);
  }

  async function barrier(): Promise<void> {
    const { messages } = await exchange(get('/barrier', 'Connection: close'));
    assert.deepEqual(
      messages.map(({ startLine }) => statusOf(startLine)),
      [200],
    );
  }

  return { port, app, connect, exchange, barrier };
}

/** A request without a body. */
export const get = (target: string, ...lines: readonly string[]): string =>
  [`GET ${target} HTTP/1.1`, 'Host: a', ...lines, '', ''].join('\r\n');

const LAST = get('/last', 'Connection: close');
const SMUGGLED = get('/smuggled', 'Connection: close');

/** One error response, the end of the connection, and not a byte for the app. */
export async function assertRefused(
  t: TestContext,
  sent: string,
  expected: number | readonly number[] = 400,
  options: WireOptions = {},
): Promise<void> {
  const wire = await startWire(t, options);
  const { messages, rest } = await wire.exchange(sent + SMUGGLED);
  const [status = 0, ...more] = messages.map(({ startLine }) => statusOf(startLine));
  assert.ok([expected].flat().includes(status), `the response is ${status}`);
  assert.deepEqual([more, rest], [[], '']);
  await wire.barrier();
  assert.deepEqual(linesAt(wire.app), []);
}

/**
 * The same for what is found behind a head: the app may have received the beginning, and the client
 * no response. `end`: the client sends FIN behind it, in place of another request.
 */
export async function assertBrokenOff(
  t: TestContext,
  sent: string,
  { end = false }: { readonly end?: boolean } = {},
): Promise<void> {
  const wire = await startWire(t);
  const client = await wire.connect();
  client.send(end ? sent : sent + SMUGGLED);
  if (end) client.socket.end();
  const { messages, rest } = responsesIn(await client.untilClosed());
  const statuses = messages.map(({ startLine }) => statusOf(startLine));
  assert.match(statuses.join(), /^(?:400|413|431)?$/);
  assert.equal(rest, '');
  await wire.barrier();
  assert.deepEqual(requestLinesAt(wire.app), []);
}

/**
 * A request of HTTP/1.1 that the app receives; the request behind it in the same packet is received
 * as the next one. Resolves with what the app has received.
 */
export async function assertPassed(
  t: TestContext,
  sent: string,
  options: WireOptions = {},
): Promise<Message> {
  const wire = await startWire(t, options);
  const { messages, rest } = await wire.exchange(sent + LAST);
  const finals = messages
    .map(({ startLine }) => statusOf(startLine))
    .filter((status) => status !== 100);
  assert.deepEqual([finals, rest], [[200, 200], '']);
  const [request, last, ...more] = wire.app.requests;
  assert.ok(request && last, 'both requests arrive');
  assert.deepEqual([last.startLine, more], ['GET /last HTTP/1.1', []]);
  return request;
}

function requestLinesAt(app: RecordingApp): string[] {
  return app.requests
    .map(({ startLine }) => startLine)
    .filter((line) => line !== 'GET /barrier HTTP/1.1');
}

function linesAt(app: RecordingApp): string[] {
  return [...requestLinesAt(app), ...app.unfinished()];
}

/** How a connection ends for this side: by the other side's FIN, or by its RST. */
export function endingOf(socket: Socket): Promise<'end' | 'reset'> {
  return new Promise((resolve, reject) => {
    socket.once('close', () => resolve('end'));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') resolve('reset');
      else reject(error);
    });
  });
}

/** A session of the Machine `m1`, already replayed once: any other Machine forwards it. */
export const OF_M1 = [
  'Mcp-Session-Id: abc~m1',
  'Fly-Replay-Src: instance=m3;t=1;state=fly-affinity',
] as const;

export interface Pair {
  readonly app: RecordingApp;
  /** To `m1`, before the app. */
  readonly local: Wire;
  /** To `m2`, which forwards to `m1`. */
  readonly forwarded: Wire;
}

export async function startPair(
  t: TestContext,
  { respond, env = {} }: WireOptions = {},
): Promise<Pair> {
  const app = await serveRecordingApp(t, respond);
  const nowhere = await serveRecordingApp(t, (socket) => socket.destroy());
  const fleet = await openFleet(t, 'm1', 'm2');
  const m1 = await fleet.start('m1', app.port, env);
  const m2 = await fleet.start('m2', nowhere.port, env);
  const local = wireTo(t, m1.sidecar.ports.public, app);
  return { app, local, forwarded: wireTo(t, m2.sidecar.ports.public, app) };
}

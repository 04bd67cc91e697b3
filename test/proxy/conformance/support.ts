/**
 * Helpers for the black-box HTTP/1.1 tests: a sidecar between a client and an app that are both raw
 * sockets, and a lenient parser of the messages that they receive.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';
import { openFleet } from '../../support/fleet.ts';
import { openClient, type RawClient } from '../../support/raw.ts';
import { serveRawApp } from '../../support/raw-app.ts';
import { startTestSidecar } from '../../support/sidecar.ts';

export type Field = readonly [name: string, value: string];

export interface Message {
  readonly startLine: string;
  /** Names as received, values without surrounding white space. */
  readonly fields: readonly Field[];
  /** Without the chunked framing. */
  readonly body: string;
  readonly trailers: readonly Field[];
}

interface Messages {
  readonly messages: readonly Message[];
  /** Bytes that are not a complete message yet. */
  readonly rest: string;
}

function requestsIn(text: string): Messages {
  return messagesIn(text, ({ fields }) => framingOf(fields) ?? 0);
}

/** `methods`: of the requests, in order; GET where none is given. */
export function responsesIn(text: string, methods: readonly string[] = []): Messages {
  let responseCount = 0;
  return messagesIn(text, ({ startLine, fields }) => {
    const status = statusOf(startLine);
    if (status < 200) return 0;
    const method = methods[responseCount];
    responseCount += 1;
    if (method === 'HEAD' || status === 204 || status === 304) return 0;
    return framingOf(fields) ?? 'until-close';
  });
}

/** 0 if the line is not a status line. */
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

interface RawSidecar {
  /** Of the public listener. */
  readonly port: number;
  readonly app: RecordingApp;
  readonly connect: () => Promise<RawClient>;
  /** Sends the text on a new connection. Resolves with the responses once the sidecar closes it. */
  readonly responsesTo: (sent: string, methods?: readonly string[]) => Promise<Messages>;
  /** Resolves when everything in flight to the app has arrived. */
  readonly barrier: () => Promise<void>;
}

interface RawSidecarOptions {
  readonly respond?: Respond;
  readonly env?: Readonly<Record<string, string>>;
}

export async function startRawSidecar(
  t: TestContext,
  { respond, env = {} }: RawSidecarOptions = {},
): Promise<RawSidecar> {
  const app = await serveRecordingApp(t, respond);
  const { ports } = await startTestSidecar(t, app.port, env);
  return rawSidecarAt(t, ports.public, app);
}

/** A running sidecar whose app is `app`. */
export function rawSidecarAt(t: TestContext, port: number, app: RecordingApp): RawSidecar {
  async function connect(): Promise<RawClient> {
    const client = await openClient(t, port);
    return client;
  }

  async function responsesTo(sent: string, methods?: readonly string[]): Promise<Messages> {
    const client = await connect();
    client.send(sent);
    return responsesIn(await client.untilClosed(), methods);
  }

  async function barrier(): Promise<void> {
    const { messages } = await responsesTo(get('/barrier', 'Connection: close'));
    assert.deepEqual(
      messages.map(({ startLine }) => statusOf(startLine)),
      [200],
    );
  }

  return { port, app, connect, responsesTo, barrier };
}

/** A request without a body. */
export const get = (target: string, ...lines: readonly string[]): string =>
  [`GET ${target} HTTP/1.1`, 'Host: a', ...lines, '', ''].join('\r\n');

const LAST = get('/last', 'Connection: close');
const SMUGGLED = get('/smuggled', 'Connection: close');

/** The client receives one error response and the end of the connection. The app receives nothing. */
export async function assertRejected(
  t: TestContext,
  sent: string,
  expected: number | readonly number[] = 400,
  options: RawSidecarOptions = {},
): Promise<void> {
  const sidecar = await startRawSidecar(t, options);
  const { messages, rest } = await sidecar.responsesTo(sent + SMUGGLED);
  const [status = 0, ...more] = messages.map(({ startLine }) => statusOf(startLine));
  assert.ok([expected].flat().includes(status), `the response is ${status}`);
  assert.deepEqual([more, rest], [[], '']);
  await sidecar.barrier();
  assert.deepEqual(linesAt(sidecar.app), []);
}

/**
 * The same for an error in the body: the app may have received the start of the request, and the
 * client may get no response. `end`: the client sends FIN after it, in place of another request.
 */
export async function assertAborted(
  t: TestContext,
  sent: string,
  { end = false }: { readonly end?: boolean } = {},
): Promise<void> {
  const sidecar = await startRawSidecar(t);
  const client = await sidecar.connect();
  client.send(end ? sent : sent + SMUGGLED);
  if (end) client.socket.end();
  const { messages, rest } = responsesIn(await client.untilClosed());
  const statuses = messages.map(({ startLine }) => statusOf(startLine));
  assert.match(statuses.join(), /^(?:400|413|431)?$/);
  assert.equal(rest, '');
  await sidecar.barrier();
  assert.deepEqual(requestLinesAt(sidecar.app), []);
}

/**
 * The app receives this HTTP/1.1 request, and the request behind it in the same packet as the next
 * one. Resolves with the request that the app received.
 */
export async function assertReachesApp(
  t: TestContext,
  sent: string,
  options: RawSidecarOptions = {},
): Promise<Message> {
  const sidecar = await startRawSidecar(t, options);
  const { messages, rest } = await sidecar.responsesTo(sent + LAST);
  const finals = messages
    .map(({ startLine }) => statusOf(startLine))
    .filter((status) => status !== 100);
  assert.deepEqual([finals, rest], [[200, 200], '']);
  const [request, last, ...more] = sidecar.app.requests;
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

/** How the connection ends for this side: with a FIN or with an RST of the other side. */
export function endingOf(socket: Socket): Promise<'end' | 'reset'> {
  return new Promise((resolve, reject) => {
    socket.once('close', () => resolve('end'));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') resolve('reset');
      else reject(error);
    });
  });
}

/** Headers of a session of Machine `m1`, already replayed once: the other Machines forward it. */
export const OF_M1 = [
  'Mcp-Session-Id: abc~m1',
  'Fly-Replay-Src: instance=m3;t=1;state=fly-affinity',
] as const;

export interface Pair {
  readonly app: RecordingApp;
  /** The sidecar of `m1`, next to the app. */
  readonly local: RawSidecar;
  /** The sidecar of `m2`, which forwards to `m1`. */
  readonly forwarded: RawSidecar;
}

export async function startPair(
  t: TestContext,
  { respond, env = {} }: RawSidecarOptions = {},
): Promise<Pair> {
  const app = await serveRecordingApp(t, respond);
  const otherApp = await serveRecordingApp(t, (socket) => socket.destroy());
  const fleet = await openFleet(t, 'm1', 'm2');
  const m1 = await fleet.start('m1', app.port, env);
  const m2 = await fleet.start('m2', otherApp.port, env);
  const local = rawSidecarAt(t, m1.sidecar.ports.public, app);
  return { app, local, forwarded: rawSidecarAt(t, m2.sidecar.ports.public, app) };
}

/**
 * The same generated messages through the complete engine, over sockets and in packets: the app must
 * receive what the parsers read, the client what the app sent, and nothing else.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { serveRawApp } from '../../support/raw-app.ts';
import { runCampaign, type Finding } from './campaign.ts';
import type { Chance } from './chance.ts';
import { startForwarder, type Forwarder } from './forwarder.ts';
import { mutate } from './mutation.ts';
import { NodeClient, type SeenResponse } from './node-client.ts';
import { randomPieces } from './pieces.ts';
import { findForbiddenTrailer, isSame } from './request-comparison.ts';
import { RawPeer } from './raw-peer.ts';
import { DETECTS_RESETS } from '../../support/detects-resets.ts';
import { readRequests, RequestReader, type ReadRequest } from './request-reader.ts';
import { requestText } from './request-text.ts';
import { readResponse, type ResponseRead } from './response-reader.ts';
import { responseText } from './response-text.ts';

test('the app receives each accepted request once, and the client its responses', async (t) => {
  const app = await startEcho(t);
  const forwarder = await startForwarder(t, { appPort: app.port });
  await runCampaign(t, {
    share: 0.04,
    generate: (chance) => mutate(requestText(chance), chance),
    check: (input, chance) =>
      checkRequests(Buffer.from(input, 'latin1'), { app, forwarder, chance }),
  });
  assert.deepEqual(forwarder.faults, []);
});

interface Echo {
  readonly port: number;
  /** Requests received since the list was emptied. */
  readonly requests: ReadRequest[];
}

/** Responds to each complete request with its number. */
async function startEcho(t: TestContext): Promise<Echo> {
  const requests: ReadRequest[] = [];
  const readers = new WeakMap<object, RequestReader>();
  const port = await serveRawApp(t, (socket, text) => {
    const reader = readers.get(socket) ?? new RequestReader();
    readers.set(socket, reader);
    const before = reader.requests.filter(({ isComplete }) => isComplete).length;
    reader.receive(Buffer.from(text, 'latin1'));
    for (const request of reader.requests.filter(({ isComplete }) => isComplete).slice(before)) {
      requests.push(request);
      const body = request.head.method === 'HEAD' ? '' : '!';
      socket.write(
        `HTTP/1.1 200 OK\r\nX-Number: ${requests.length}\r\nContent-Length: 1\r\n\r\n${body}`,
      );
    }
  });
  return { port, requests };
}

interface RequestsRun {
  readonly app: Echo;
  readonly forwarder: Forwarder;
  readonly chance: Chance;
}

async function checkRequests(
  bytes: Buffer,
  { app, forwarder, chance }: RequestsRun,
): Promise<Finding> {
  const { requests, ending } = readRequests([bytes]);
  const complete = untilUpgrade(requests.filter(({ isComplete }) => isComplete));
  app.requests.length = 0;
  const client = await RawPeer.open(forwarder.port);
  await client.send(randomPieces(bytes, chance));
  const methods = complete.map(({ head }) => head.method);
  // Half of the clients half-close immediately, the others after their responses.
  const isPatient = chance.happens(0.5);
  if (isPatient)
    await client.until(() => countResponses(client.received, methods) === methods.length);
  client.socket.end();
  const hasClosed = await client.untilClosed();
  client.socket.destroy();
  const state = `${JSON.stringify(client.received)} for ${JSON.stringify(methods)}, ${ending}`;
  if (!hasClosed) return `the connection hangs: ${state}`;
  return (
    findOtherRequests(complete, app.requests) ?? findOtherResponses(client.received, methods, state)
  );
}

/** Nothing is read after an upgrade request: the bytes may belong to the other protocol. */
function untilUpgrade(requests: readonly ReadRequest[]): readonly ReadRequest[] {
  const upgrade = requests.findIndex(({ head }) => head.upgrade !== undefined);
  return upgrade === -1 ? requests : requests.slice(0, upgrade + 1);
}

function findOtherRequests(
  expected: readonly ReadRequest[],
  seen: readonly ReadRequest[],
): Finding {
  const format = (list: readonly ReadRequest[]): string =>
    JSON.stringify(list.map(({ head, body }) => [head.method, head.target, body]));
  return format(expected) === format(seen)
    ? undefined
    : `other requests: ${format(seen)}, not ${format(expected)}`;
}

/** One response of the app for each request, in order, and at most one error response of the sidecar. */
function findOtherResponses(received: string, methods: readonly string[], state: string): Finding {
  const numbers = Array.from(received.matchAll(/^X-Number: (\d+)\r$/gm), ([, number]) =>
    Number(number),
  );
  const isInOrder = numbers.every((number, index) => number === index + 1);
  if (!isInOrder || numbers.length !== methods.length) return `other responses: ${state}`;
  const errorResponses = Array.from(received.matchAll(/^X-Local: yes\r$/gm)).length;
  return errorResponses <= 1 ? undefined : `more than one error response: ${state}`;
}

function countResponses(received: string, methods: readonly string[]): number {
  let rest = received;
  let count = 0;
  for (const method of methods) {
    const read = readResponse([Buffer.from(rest, 'latin1')], method);
    if (read.ending !== 'complete') break;
    rest = rest.slice(read.end);
    count += 1;
  }
  return count;
}

test('the client gets the accepted response, complete or aborted, and then the next one', async (t) => {
  let pieces: readonly Buffer[] = [];
  let endsAfterwards = true;
  const appPort = await serveRawApp(t, (socket, request) => {
    if (request.startsWith('GET /second')) socket.write(SECOND);
    else void sendPieces(socket, pieces, endsAfterwards);
  });
  const forwarder = await startForwarder(t, { appPort });
  await runCampaign(t, {
    share: 0.03,
    generate: (chance) => mutate(responseText(chance), chance),
    check: (input, chance) => {
      const bytes = Buffer.from(input, 'latin1');
      const method = chance.happens(0.15) ? 'HEAD' : 'GET';
      const read = readResponse([bytes], method);
      // Late bytes after a complete response look like the next response.
      const isTooLong = read.ending === 'complete' && read.end < bytes.length;
      pieces = isTooLong || chance.happens(0.5) ? [bytes] : randomPieces(bytes, chance);
      endsAfterwards = read.ending !== 'complete' || chance.happens(0.5);
      return checkResponse(read, { forwarder, method, chance });
    },
  });
  assert.deepEqual(forwarder.faults, []);
});

const SECOND = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond';

async function sendPieces(
  socket: Socket,
  pieces: readonly Buffer[],
  endsAfterwards: boolean,
): Promise<void> {
  for (const piece of pieces) {
    socket.write(piece);
    await nextTurn();
  }
  if (endsAfterwards) socket.end();
}

interface ResponseRun {
  readonly forwarder: Forwarder;
  readonly method: string;
  readonly chance: Chance;
}

async function checkResponse(
  read: ResponseRead,
  { forwarder, method, chance }: ResponseRun,
): Promise<Finding> {
  const version = chance.happens(0.15) ? '1.0' : '1.1';
  const client = await RawPeer.open(forwarder.port);
  await client.send([
    Buffer.from(`${method} / HTTP/${version}\r\nHost: h\r\nConnection: keep-alive\r\n\r\n`),
  ]);
  const isThere = (): boolean =>
    readResponse([Buffer.from(client.received, 'latin1')], method).ending === 'complete';
  if (!(await client.until(isThere)))
    return `the connection hangs: ${JSON.stringify(client.received)}`;
  const first = client.received;
  const wasClosed = client.isClosed;
  if (!wasClosed) {
    await client.send([Buffer.from('GET /second HTTP/1.1\r\nHost: h\r\n\r\n')]);
    await client.until(() => client.received.endsWith('second'));
  }
  const second = client.received.slice(first.length);
  client.socket.destroy();
  const seen = await asNodeSees(first, method);
  const finding =
    findOtherResponse(read, seen, { method, version, wasReset: wasClosed && client.wasReset }) ??
    (wasClosed || isSecond(second) ? undefined : `another response is next`);
  return finding === undefined
    ? undefined
    : `${finding}: app ${JSON.stringify(read)}, client ${JSON.stringify([first, second])}`;
}

/** The text is empty if the connection was closed in between. */
function isSecond(text: string): boolean {
  return text === '' || (text.startsWith('HTTP/1.1 200 OK\r\n') && text.endsWith('\r\n\r\nsecond'));
}

async function asNodeSees(text: string, method: string): Promise<SeenResponse> {
  const node = new NodeClient(method);
  await nextTurn();
  node.feed(Buffer.from(text, 'latin1'));
  node.end();
  node.close();
  return node.seen;
}

interface ClientView {
  readonly method: string;
  readonly version: string;
  readonly wasReset: boolean;
}

function findOtherResponse(read: ResponseRead, seen: SeenResponse, view: ClientView): Finding {
  const { head } = read;
  const isLocal = seen.rawHeaders.includes('X-Local');
  if (!head || head.statusCode === 101) return isLocal ? undefined : 'no 502';
  if (isLocal) return read.ending === 'broken body' ? undefined : 'a 502';
  if (seen.statusCode !== head.statusCode) return 'another status';
  // Only chunked bodies have trailers, so otherwise Trailer has no meaning.
  const hasChunks = read.framing !== 'none' && hasField(seen.rawHeaders, 'transfer-encoding');
  const sent = hasChunks ? head.rawHeaders : without(head.rawHeaders, ['trailer']);
  if (!isSame(without(seen.rawHeaders, FRAMING), sent)) return 'other fields';
  const isWhole = read.ending === 'complete' || read.framing === 'until-close';
  const isTaken = seen.isComplete && !view.wasReset;
  // A client on an old libuv can't detect a reset.
  const isFramed =
    hasField(seen.rawHeaders, 'content-length') || hasField(seen.rawHeaders, 'transfer-encoding');
  const mayBeMistaken = !DETECTS_RESETS && !isWhole && !isFramed;
  if (isTaken !== isWhole && !mayBeMistaken)
    return isWhole ? 'not complete for the client' : 'complete for the client';
  if (isWhole && seen.body !== read.body) return 'another body';
  if (isWhole) return findForbiddenTrailer(seen.rawTrailers);
  return read.ending === 'broken body' || read.body.startsWith(seen.body)
    ? undefined
    : 'another beginning';
}

/** Fields that the sidecar sets for its own connection to the client. */
const FRAMING = ['transfer-encoding', 'connection'];

function without(rawHeaders: readonly string[], lowerNames: readonly string[]): string[] {
  return rawHeaders.filter(
    (_text, index) => !lowerNames.includes((rawHeaders[index - (index % 2)] ?? '').toLowerCase()),
  );
}

function hasField(rawHeaders: readonly string[], lowerName: string): boolean {
  return rawHeaders.some((name, index) => index % 2 === 0 && name.toLowerCase() === lowerName);
}

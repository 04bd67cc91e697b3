/** This client reads valid responses the same as the client of node:http. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request, type IncomingMessage, type InformationEvent } from 'node:http';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { sendRequest, onHeads, openUpstream, Recorder, startRawServer } from './support.ts';

interface Response {
  readonly text: string;
  /** Without a length: the server ends the connection. */
  readonly isUntilClose: boolean;
  readonly method: 'GET' | 'HEAD';
}

interface Received {
  readonly interims: readonly (readonly [number, readonly string[]])[];
  readonly statusCode: number | undefined;
  readonly rawHeaders: readonly string[];
  readonly body: string;
  readonly rawTrailers: readonly string[];
}

/** One of these characters. */
const anyOf = (characters: string): fc.Arbitrary<string> =>
  fc.constantFrom(...Array.from(characters));
const name = fc.string({
  unit: anyOf("abcXYZ019!#$%&'*+-.^_`|~"),
  minLength: 1,
  maxLength: 20,
});
const value = fc.string({ unit: anyOf('aZ0 \t,;="/\xe9\xff'), maxLength: 40 });
const blank = fc.constantFrom('', ' ', '\t', ' \t ');
const field = fc
  .tuple(name, blank, value, blank)
  .map(([field, before, text, after]) => `x-${field}:${before}${text}${after}\r\n`);
const fields = fc.array(field, { maxLength: 6 }).map((lines) => lines.join(''));
const body = fc.string({
  unit: fc.constantFrom('a', '\r', '\n', '\r\n', '0\r\n\r\n', '\xff', 'HTTP/1.1 200 OK'),
  maxLength: 60,
});
const extension = fc.constantFrom('', '', ';a', ';a=b', ';a="b c";d');

const lengthResponse = fc.tuple(fields, body).map(([lines, text]) => ({
  framing: `${lines}Content-Length: ${text.length}\r\n\r\n`,
  text,
  isUntilClose: false,
}));
const untilCloseResponse = fc.tuple(fields, body).map(([lines, text]) => ({
  framing: `${lines}\r\n`,
  text,
  isUntilClose: true,
}));
const chunk = fc
  .tuple(body, extension, fc.boolean(), fc.integer({ min: 0, max: 4 }))
  .filter(([text]) => text.length > 0)
  .map(([text, after, isUpper, zeros]) => {
    const size = '0'.repeat(zeros) + text.length.toString(16);
    return `${isUpper ? size.toUpperCase() : size}${after}\r\n${text}\r\n`;
  });
const chunkedResponse = fc
  .tuple(fields, fc.array(chunk, { maxLength: 6 }), extension, fields)
  .map(([lines, chunks, after, trailers]) => ({
    framing: `${lines}Transfer-Encoding: chunked\r\n\r\n`,
    text: `${chunks.join('')}0${after}\r\n${trailers}\r\n`,
    isUntilClose: false,
  }));
const interim = fc
  .tuple(fc.constantFrom(102, 103, 110, 199), fields)
  .map(([code, lines]) => `HTTP/1.1 ${code} Info\r\n${lines}\r\n`);

const response = fc
  .record({
    interims: fc.array(interim, { maxLength: 3 }),
    statusCode: fc.constantFrom(200, 201, 206, 299, 304, 204, 404, 500, 599),
    reason: fc.constantFrom('OK', '', 'Not Found', '\xe9 \t'),
    framed: fc.oneof(lengthResponse, chunkedResponse, untilCloseResponse),
    method: fc.constantFrom('GET' as const, 'GET' as const, 'HEAD' as const),
  })
  .map(({ interims, statusCode, reason, framed, method }): Response => {
    const hasBody = method === 'GET' && statusCode !== 204 && statusCode !== 304;
    const head = `HTTP/1.1 ${statusCode} ${reason}\r\n${framed.framing}`;
    return {
      text: interims.join('') + head + (hasBody ? framed.text : ''),
      isUntilClose: hasBody && framed.isUntilClose,
      method,
    };
  });
const cutAt = fc.array(fc.nat({ max: 400 }), { maxLength: 6 });

test('a valid response is read as node:http reads it, for every split', async (t) => {
  let next: Response = { text: '', isUntilClose: false, method: 'GET' };
  let cuts: number[] = [];
  const { port } = await startRawServer(t, (socket) => {
    onHeads(socket, () => {
      void writeInPieces(next.text, cuts, (piece) => socket.write(piece, 'latin1')).then(() => {
        if (next.isUntilClose) socket.end();
      });
    });
  });
  const upstream = openUpstream(t, port);
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const property = fc.asyncProperty(response, cutAt, async (valid, cutPoints) => {
    next = valid;
    cuts = cutPoints;
    const ours = await sendRequest(upstream, { method: valid.method }, framedRecorder());
    assert.equal(ours.errorCode, undefined);
    assert.deepEqual(asReceived(ours), await askNode(port, valid.method, agent));
  });
  await fc.assert(property, { numRuns: 300 });
});

// No tab: node counts a tab after `chunked` as part of the token (RFC 9110 §5.5: it is not).
const splinter = fc.constantFrom(
  ...['', '\r', '\n', '\r\n', ' ', ':', ';', ',', '0', '1', '\0', '\x0b', '-', '+', '\r\n '],
  ...['Content-Length: 3\r\n', 'Transfer-Encoding: chunked\r\n'],
);
const damage = fc.array(
  fc.record({ at: fc.nat({ max: 400 }), removed: fc.nat({ max: 3 }), added: splinter }),
  { minLength: 1, maxLength: 2 },
);

test('a mutated response is rejected, or read as node:http reads it', async (t) => {
  let text = '';
  const { port } = await startRawServer(t, (socket) => {
    onHeads(socket, () => socket.end(text, 'latin1'));
  });
  const upstream = openUpstream(t, port);
  const property = fc.asyncProperty(response, damage, async (valid, damages) => {
    text = damages.reduce(spoil, valid.text);
    const ours = await sendRequest(upstream, { method: valid.method }, framedRecorder());
    const nodes = await askNode(port, valid.method, false).catch(() => undefined);
    // Node rejects bytes after a response, and this client ignores them.
    if (!ours.error && nodes) assert.deepEqual(asReceived(ours), nodes);
  });
  await fc.assert(property, { numRuns: 500 });
});

function spoil(
  text: string,
  { at, removed, added }: { at: number; removed: number; added: string },
): string {
  const start = at % (text.length + 1);
  return text.slice(0, start) + added + text.slice(start + removed);
}

async function writeInPieces(
  text: string,
  cuts: number[],
  write: (piece: string) => void,
): Promise<void> {
  const points = [
    0,
    ...cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b),
    text.length,
  ];
  for (const [i, start] of points.slice(0, -1).entries()) {
    const piece = text.slice(start, points[i + 1]);
    if (piece !== '') write(piece);
    await nextTurn();
  }
}

/** Keeps the framing of the body, because only then the trailers are available. */
function framedRecorder(): Recorder {
  return Object.assign(new Recorder(), { decodes: false });
}

function asReceived(recorder: Recorder): Received {
  const { head, text, interims } = recorder;
  const { body, rawTrailers } = head?.isChunked ? unframed(text) : { body: text, rawTrailers: [] };
  return {
    interims: interims.map(({ statusCode, rawHeaders }) => [statusCode, rawHeaders]),
    statusCode: recorder.statusCode,
    rawHeaders: recorder.rawHeaders,
    body,
    rawTrailers,
  };
}

/** Parses chunks and trailers that this client passed on, which are well-formed. */
function unframed(text: string): { body: string; rawTrailers: string[] } {
  let body = '';
  let at = 0;
  for (;;) {
    if (text === '') return { body: '', rawTrailers: [] };
    const size = parseInt(text.slice(at), 16);
    at = text.indexOf('\r\n', at) + 2;
    if (size === 0) break;
    body += text.slice(at, at + size);
    at += size + 2;
  }
  const lines = text.slice(at).split('\r\n').slice(0, -2);
  const rawTrailers = lines.flatMap((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 2)];
  });
  return { body, rawTrailers };
}

/** The fields that this client passes on: no framing fields, and no length with a 1xx or a 204 (RFC 9110 §8.6). */
function passed(statusCode: number, rawHeaders: readonly string[]): string[] {
  const isWithoutLength = statusCode < 200 || statusCode === 204;
  return rawHeaders.filter((_, i) => {
    const name = rawHeaders[i - (i % 2)]?.toLowerCase();
    return name !== 'transfer-encoding' && !(isWithoutLength && name === 'content-length');
  });
}

async function askNode(port: number, method: string, agent: Agent | false): Promise<Received> {
  const interims: [number, string[]][] = [];
  const req = request({ host: '127.0.0.1', port, method, agent });
  req.on('information', ({ statusCode, rawHeaders }: InformationEvent) => {
    interims.push([statusCode, passed(statusCode, rawHeaders)]);
  });
  // Ignore a second error after the first.
  req.on('error', () => undefined).end();
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of res) chunks.push(chunk as Buffer);
  const { statusCode = 0, rawTrailers } = res;
  const rawHeaders = passed(statusCode, res.rawHeaders);
  const body = Buffer.concat(chunks).toString('latin1');
  return { interims, statusCode, rawHeaders, body, rawTrailers };
}

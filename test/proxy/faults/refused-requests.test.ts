/**
 * Fault 2: after a rejected request, the app received the next pipelined one. A malformed request gets
 * one response and is the last of its connection.
 */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { openFleet } from '../../support/fleet.ts';
import { openClient, type RawClient } from '../../support/raw.ts';
import { startTestSidecar } from '../../support/sidecar.ts';
import {
  BOUNDED,
  get,
  post,
  readResponses,
  requestText,
  hasConnectionClose,
  serveRecordingApp,
  summaryOf,
  untilArrived,
  untilEnded,
  untilResponses,
  type Ports,
  type Received,
} from './support.ts';

/** If the sidecar executes it, the connection closes and the test does not wait. */
const SMUGGLED = post('/smuggled', 'body') + get('/smuggled', 'Connection: close');

type Row = readonly [name: string, text: string];

const ok = (...fields: string[]): string => get('/refused', ...fields);
const withBody = (body: string, ...fields: string[]): string =>
  requestText('POST', '/refused', ...fields) + body;
const inChunks = (body: string): string => withBody(body, 'Transfer-Encoding: chunked');

/** The app receives no part of these. */
const HEADS: readonly Row[] = [
  ['two Host lines', ok('Host: b')],
  ['two equal Host lines', ok('Host: a')],
  ['no Host', 'GET /refused HTTP/1.1\r\nX-A: b\r\n\r\n'],
  ['an empty Host', 'GET /refused HTTP/1.1\r\nHost:\r\n\r\n'],
  ['a Host with a path', 'GET /refused HTTP/1.1\r\nHost: a/b\r\n\r\n'],
  ['a Host with a user', 'GET /refused HTTP/1.1\r\nHost: u@a\r\n\r\n'],
  ['a list of Hosts', 'GET /refused HTTP/1.1\r\nHost: a, b\r\n\r\n'],
  ['a fragment in the target', get('/refused#f')],
  ['a fragment before the query', get('/refused#?session_id=x')],
  ['another host in the target', get('http://b/refused')],
  ['a user in the target', get('http://u@a/refused')],
  ['another scheme in the target', get('ftp://a/refused')],
  ['an asterisk as the target', get('*')],
  ['a target without a slash', get('refused')],
  ['a CONNECT', requestText('CONNECT', 'a:80')],
  ['a space in the target', get('/ref used')],
  ['a NUL in the target', get('/ref\0used')],
  ['two spaces before the target', 'GET  /refused HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a space after the version', 'GET /refused HTTP/1.1 \r\nHost: a\r\n\r\n'],
  ['a tab in place of a space', 'GET\t/refused HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a method that is not a token', requestText('G@T', '/refused')],
  ['no method', ' /refused HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['no version', 'GET /refused\r\nHost: a\r\n\r\n'],
  ['HTTP/0.9', 'GET /refused\r\n'],
  ['HTTP/2.0', 'GET /refused HTTP/2.0\r\nHost: a\r\n\r\n'],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a version in lower case', 'GET /refused http/1.1\r\nHost: a\r\n\r\n'],
  ['another protocol', 'GET /refused RTSP/1.0\r\nHost: a\r\n\r\n'],
  ['a TLS ClientHello', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n'],
  ['a bare LF after the request line', 'GET /refused HTTP/1.1\nHost: a\r\n\r\n'],
  ['a bare LF after a field', 'GET /refused HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n'],
  ['a bare LF as the empty line', 'GET /refused HTTP/1.1\r\nHost: a\r\n\n'],
  ['bare LFs throughout', 'GET /refused HTTP/1.1\nHost: a\n\n'],
  ['a bare CR in a value', ok('X-A: b\rX-B: c')],
  ['a CR before the line end', ok('X-A: b\r')],
  ['a NUL in a value', ok('X-A: b\0c')],
  ['a control character in a value', ok('X-A: b\x01c')],
  ['a DEL in a value', ok('X-A: b\x7fc')],
  ['a NUL in a name', ok('X\0A: b')],
  ['a name with a space in it', ok('X A: b')],
  ['a name in quotes', ok('"X-A": b')],
  ['a name with a non-ASCII byte', ok('X-\xe9: b')],
  ['an empty name', ok(': b')],
  ['a line without a colon', ok('X-A')],
  ['a space before the colon', ok('X-A : b')],
  ['a tab before the colon', ok('X-A\t: b')],
  ['a folded line', ok('X-A: b', ' c')],
  ['a line folded with a tab', ok('X-A: b', '\tc')],
  ['a first line that is folded', 'GET /refused HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n'],
  ['a space before the colon of a length', withBody('', 'Content-Length : 0')],
  ['two lengths', withBody('abc', 'Content-Length: 3', 'Content-Length: 4')],
  ['two equal lengths', withBody('abc', 'Content-Length: 3', 'Content-Length: 3')],
  ['a list of lengths', withBody('abc', 'Content-Length: 3, 3')],
  ['a length with a plus', withBody('abc', 'Content-Length: +3')],
  ['a negative length', withBody('', 'Content-Length: -1')],
  ['a length in hex', withBody('abc', 'Content-Length: 0x3')],
  ['a length with a fraction', withBody('abc', 'Content-Length: 3.0')],
  ['a length with an exponent', withBody('abc', 'Content-Length: 3e0')],
  ['a length with a space in it', withBody('abc', 'Content-Length: 3 3')],
  ['a length that is not a number', withBody('abc', 'Content-Length: abc')],
  ['an empty length', withBody('', 'Content-Length:')],
  ['a length that is too large', withBody('', 'Content-Length: 99999999999999999999999')],
  [
    'a length and a coding',
    withBody('0\r\n\r\n', 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  ],
  [
    'a coding and a length',
    withBody('0\r\n\r\n', 'Transfer-Encoding: chunked', 'Content-Length: 5'),
  ],
  ['a coding before chunked', withBody('0\r\n\r\n', 'Transfer-Encoding: gzip, chunked')],
  ['a coding after chunked', withBody('0\r\n\r\n', 'Transfer-Encoding: chunked, gzip')],
  ['a coding that is not chunked', withBody('abc', 'Transfer-Encoding: gzip')],
  ['the coding identity', withBody('', 'Transfer-Encoding: identity')],
  ['an empty coding', withBody('', 'Transfer-Encoding:')],
  ['a coding like chunked', withBody('0\r\n\r\n', 'Transfer-Encoding: xchunked')],
  ['chunked with a parameter', withBody('0\r\n\r\n', 'Transfer-Encoding: chunked;q=1')],
  ['chunked twice', withBody('0\r\n\r\n', 'Transfer-Encoding: chunked, chunked')],
  [
    'chunked in two lines',
    withBody('0\r\n\r\n', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
  ],
  ['a folded coding', withBody('0\r\n\r\n', 'Transfer-Encoding:', ' chunked')],
  [
    'a coding in HTTP/1.0',
    'POST /refused HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  [
    'a coding in HTTP/1.0 with keep-alive',
    'POST /refused HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['a head that is too large', ok(`X-A: ${'b'.repeat(70_000)}`)],
  ['a target that is too long', get(`/refused${'d'.repeat(70_000)}`)],
];

/** The heads of these are valid, so they may reach the app. */
const BODIES: readonly Row[] = [
  ['a chunk size with a plus', inChunks('+3\r\nabc\r\n0\r\n\r\n')],
  ['a negative chunk size', inChunks('-3\r\nabc\r\n0\r\n\r\n')],
  ['a chunk size with 0x', inChunks('0x3\r\nabc\r\n0\r\n\r\n')],
  ['a chunk size that is not a number', inChunks('g\r\nabc\r\n0\r\n\r\n')],
  ['no chunk size', inChunks('\r\nabc\r\n0\r\n\r\n')],
  ['a space before a chunk size', inChunks(' 3\r\nabc\r\n0\r\n\r\n')],
  ['a chunk size that is too large', inChunks('fffffffffffffffff\r\nabc\r\n0\r\n\r\n')],
  ['a bare LF after a chunk size', inChunks('3\nabc\r\n0\r\n\r\n')],
  ['a bare CR after a chunk size', inChunks('3\rabc\r\n0\r\n\r\n')],
  ['a bare LF in an extension', inChunks('3;a\nabc\r\n0\r\n\r\n')],
  ['a chunk longer than its size', inChunks('3\r\nabcd\r\n0\r\n\r\n')],
  ['a chunk shorter than its size', inChunks('3\r\nab\r\n0\r\n\r\n')],
  ['a bare LF after a chunk', inChunks('3\r\nabc\n0\r\n\r\n')],
  ['a bare LF after the last chunk', inChunks('3\r\nabc\r\n0\n\r\n')],
  ['a space before the colon of a trailer', inChunks('3\r\nabc\r\n0\r\nX-A : b\r\n\r\n')],
  ['a folded trailer', inChunks('3\r\nabc\r\n0\r\nX-A: b\r\n c\r\n\r\n')],
  ['garbage as a second chunk', inChunks('3\r\nabc\r\nnonsense\r\n')],
];

/** Which connections exist when the malformed request arrives. */
interface Warmup {
  readonly name: string;
  /** Valid requests of another client before it, so that an idle connection to the app exists. */
  readonly byAnother: number;
  /** Valid requests of the same client before it, on the same connection. */
  readonly bySame: number;
}

const WARMUPS: readonly Warmup[] = [
  { name: 'cold', byAnother: 0, bySame: 0 },
  { name: 'warmed by another client', byAnother: 1, bySame: 0 },
  { name: 'warmed by the same client', byAnother: 0, bySame: 1 },
  { name: 'warmed by both', byAnother: 1, bySame: 1 },
];

interface Outcome {
  readonly received: Received;
  /** Other requests that the app received. */
  readonly seen: readonly string[];
}

async function sendMalformed(t: TestContext, text: string, warmup: Warmup): Promise<Outcome> {
  const app = await serveRecordingApp(t);
  const sidecar = await startTestSidecar(t, app.port);
  const [other, client] = [
    await openClient(t, sidecar.ports.public),
    await openClient(t, sidecar.ports.public),
  ];
  await sendValid(other, warmup.byAnother);
  await sendValid(client, warmup.bySame);
  const received = await untilRejected(client, text + SMUGGLED, sidecar);
  return { received, seen: app.seen.filter((line) => line !== 'GET /good') };
}

async function sendValid(client: RawClient, count: number): Promise<void> {
  client.send(get('/good').repeat(count));
  const responses = await untilResponses(client, count);
  assert.ok(responses.every((response) => summaryOf(response) === '200 GET /good'));
}

/** Sends `text` and returns everything received after it, until the connection ends. */
async function untilRejected(
  client: RawClient,
  text: string,
  sidecar: { readonly ports: Ports },
): Promise<Received> {
  const before = client.received().length;
  client.send(text);
  const received = await client.untilClosed();
  await untilArrived(sidecar);
  return readResponses(received.slice(before));
}

function assertRejected({ responses, rest }: Received, when: string): void {
  const [response] = responses;
  assert.deepEqual([responses.length, rest], [1, ''], when);
  assert.ok(response && response.status >= 400 && response.status < 600, when);
  assert.ok(hasConnectionClose(response), `${when}: the response has Connection: close`);
}

describe('a malformed head gets one response, and neither it nor the next request reaches the app:', () => {
  for (const [name, text] of HEADS) {
    test(name, BOUNDED, async (t) => {
      for (const warmup of WARMUPS) {
        const { received, seen } = await sendMalformed(t, text, warmup);
        assert.deepEqual(seen, [], warmup.name);
        assertRejected(received, warmup.name);
      }
    });
  }
});

describe('a malformed body gets one response, and the next request does not reach the app:', () => {
  for (const [name, text] of BODIES) {
    test(name, BOUNDED, async (t) => {
      for (const warmup of WARMUPS) {
        const { received, seen } = await sendMalformed(t, text, warmup);
        // The head may reach the app before the body arrives.
        assert.ok(['', 'POST /refused'].includes(seen.join()), `${warmup.name}: ${seen.join()}`);
        assertRejected(received, warmup.name);
      }
    });
  }
});

describe('on the peer port no request reaches the app after', () => {
  const forward = (target: string, ...fields: string[]): readonly string[] => [
    `x-fly-affinity-target: ${target}`,
    'x-fly-affinity-machine: m1',
    ...fields,
  ];
  const smuggled = get('/v1/forward', ...forward('/smuggled', 'Connection: close'));
  const coding = 'Transfer-Encoding: chunked';
  const rows: readonly Row[] = [
    ['two Host lines', get('/v1/forward', ...forward('/refused', 'Host: b'))],
    ['a fragment in the target', get('/v1/forward', ...forward('/refused#f'))],
    ['an asterisk as the target', get('/v1/forward', ...forward('*'))],
    ['no target', get('/v1/forward')],
    [
      'a coding in HTTP/1.0',
      requestText('POST', '/v1/forward', ...forward('/refused', coding)).replace('/1.1', '/1.0') +
        '0\r\n\r\n',
    ],
    [
      'two lengths',
      requestText(
        'POST',
        '/v1/forward',
        ...forward('/refused', 'Content-Length: 0', 'Content-Length: 0'),
      ),
    ],
    ['a folded line', get('/v1/forward', ...forward('/refused', 'X-A: b', ' c'))],
  ];

  for (const [name, text] of rows) {
    test(`a malformed forward: ${name}`, BOUNDED, async (t) => {
      const app = await serveRecordingApp(t);
      const fleet = await openFleet(t, 'm1', 'm2');
      const { sidecar } = await fleet.start('m1', app.port);
      const client = await openClient(t, sidecar.ports.peer);
      client.send(get('/v1/forward', ...forward('/good')));
      await untilResponses(client, 1);
      assertRejected(await untilRejected(client, text + smuggled, sidecar), name);
      assert.deepEqual(app.seen, ['GET /good']);
    });
  }

  test('a request from an unknown address', BOUNDED, async (t) => {
    const app = await serveRecordingApp(t);
    const sidecar = await startTestSidecar(t, app.port, { FLEET: 'm9@127.0.0.9:9' });
    for (const text of [get('/'), smuggled, post('/v1/ask', '{}'), post('/', 'body')]) {
      const client = await openClient(t, sidecar.ports.peer);
      client.send(text + smuggled);
      const { responses } = await untilEnded(client);
      const statuses = new Set(responses.map(({ status }) => status));
      assert.deepEqual([...statuses], [403]);
    }
    await untilArrived(sidecar);
    assert.deepEqual(app.seen, []);
  });
});

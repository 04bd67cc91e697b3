import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import { createTestClock } from '../support/clock.ts';
import { cutText } from './bodies.ts';
import { responseWith, get, machine, protocolsOf } from './heads.ts';

const clock = createTestClock();

const TOKEN = '0123456789abcdef';

function openInspector(hints = true, request = get('/sse', 'Host', 'a.b')): BodyInspector {
  const options = { hints, self: machine('me'), clock, createId: () => TOKEN };
  const discoverer = createDiscoverer(protocolsOf('mcp,mcp-sse,rpc'), options);
  const stream = responseWith(200, 'content-type', 'text/event-stream');
  const { inspector } = discoverer.inspectHead(request, { kind: 'none' }, stream);
  assert.ok(inspector);
  return inspector;
}

interface Passed {
  /** The complete output. */
  readonly out: string;
  readonly id: string | undefined;
  /** The output before the id was discovered or the inspection ended, chunk by chunk. */
  readonly early: readonly string[];
  readonly isDone: boolean;
}

/** Sends the chunks through an inspector, latin-1 for bytes, and ends the stream. */
function pass(chunks: readonly string[], inspector = openInspector()): Passed {
  let out = '';
  let id: string | undefined;
  let isDone = false;
  const early: string[] = [];
  for (const chunk of chunks) {
    const bytes = Buffer.from(chunk, 'latin1');
    const pushed = inspector.push(bytes);
    const text = Buffer.from(pushed.out ?? []).toString('latin1');
    // The engine may reuse the memory of a chunk after it was handled.
    bytes.fill(0);
    if (!pushed.isDone) early.push(text);
    out += text;
    const { discovered } = pushed;
    assert.ok(discovered.length <= (id === undefined ? 1 : 0), 'one discovered id per stream');
    id = discovered[0]?.id ?? id;
    isDone = pushed.isDone;
  }
  out += Buffer.from(inspector.end().out ?? []).toString('latin1');
  return { out, id, early, isDone };
}

interface Taught {
  readonly claim: string;
  readonly stream: string;
  readonly id: string;
  readonly out: string;
}

// prettier-ignore
const TAUGHT: readonly Taught[] = [
  { claim: 'Python’s SDK', stream: 'event: endpoint\r\ndata: /messages/?session_id=abc\r\n\r\n', id: 'abc', out: 'event: endpoint\r\ndata: /messages/?session_id=abc~me\r\n\r\n' },
  { claim: 'TypeScript’s SDK', stream: 'event: endpoint\ndata: /messages?sessionId=abc\n\n', id: 'abc', out: 'event: endpoint\ndata: /messages?sessionId=abc~me\n\n' },
  { claim: 'CR alone', stream: 'event: endpoint\rdata: /m?sessionId=abc\r\r', id: 'abc', out: 'event: endpoint\rdata: /m?sessionId=abc~me\r\r' },
  { claim: 'all line ends mixed', stream: 'event:endpoint\rdata:/m?sessionId=abc\r\n\nrest', id: 'abc', out: 'event:endpoint\rdata:/m?sessionId=abc~me\r\n\nrest' },
  { claim: 'a byte order mark', stream: '\xef\xbb\xbfevent: endpoint\ndata: /m?sessionId=abc\n\n', id: 'abc', out: '\xef\xbb\xbfevent: endpoint\ndata: /m?sessionId=abc~me\n\n' },
  { claim: 'no space after the colon', stream: 'event:endpoint\ndata:/m?sessionId=abc\n\n', id: 'abc', out: 'event:endpoint\ndata:/m?sessionId=abc~me\n\n' },
  { claim: 'comments, retry, id and empty lines before', stream: ': ping\n\n:\nretry: 5\n\nid: 1\nevent: endpoint\nid: 2\ndata: /m?sessionId=abc\n: x\nretry: 1\n\n', id: 'abc', out: ': ping\n\n:\nretry: 5\n\nid: 1\nevent: endpoint\nid: 2\ndata: /m?sessionId=abc~me\n: x\nretry: 1\n\n' },
  { claim: 'a comment longer than the buffer limit', stream: `:${' '.repeat(40_000)}\nevent: endpoint\ndata: /m?sessionId=abc\n\n`, id: 'abc', out: `:${' '.repeat(40_000)}\nevent: endpoint\ndata: /m?sessionId=abc~me\n\n` },
  { claim: 'unknown fields', stream: 'foo: bar\nfoo\nevent: endpoint\ndatabase: 1\ndata: /m?sessionId=abc\n\n', id: 'abc', out: 'foo: bar\nfoo\nevent: endpoint\ndatabase: 1\ndata: /m?sessionId=abc~me\n\n' },
  { claim: 'data before its event', stream: 'data: /m?sessionId=abc\nevent: endpoint\n\n', id: 'abc', out: 'data: /m?sessionId=abc~me\nevent: endpoint\n\n' },
  { claim: 'an absolute URL', stream: 'event: endpoint\ndata: https://a.b:1/m?x=1&sessionId=abc&y=2#f\n\n', id: 'abc', out: 'event: endpoint\ndata: https://a.b:1/m?x=1&sessionId=abc~me&y=2#f\n\n' },
  { claim: 'a fragment that looks like a query', stream: 'event: endpoint\ndata: /m?sessionId=abc#&sessionId=def\n\n', id: 'abc', out: 'event: endpoint\ndata: /m?sessionId=abc~me#&sessionId=def\n\n' },
  { claim: 'an escaped id', stream: 'event: endpoint\ndata: /m?sessionId=a%2Fb%3d\n\n', id: 'a/b=', out: 'event: endpoint\ndata: /m?sessionId=a%2Fb%3d~me\n\n' },
  { claim: 'an id that ends like a hint', stream: 'event: endpoint\ndata: /m?sessionId=a~b\n\n', id: 'a~b', out: 'event: endpoint\ndata: /m?sessionId=a~b~me\n\n' },
  { claim: 'a repeated id', stream: 'event: endpoint\ndata: /m?sessionId=a&sessionId=a\n\n', id: 'a', out: 'event: endpoint\ndata: /m?sessionId=a~me&sessionId=a~me\n\n' },
  { claim: 'an id under both names', stream: 'event: endpoint\ndata: /m?sessionId=b&session_id=a\n\n', id: 'a', out: 'event: endpoint\ndata: /m?sessionId=b&session_id=a~me\n\n' },
  { claim: 'an event without data before', stream: 'event: endpoint\n\nevent: endpoint\ndata: /m?sessionId=a\n\n', id: 'a', out: 'event: endpoint\n\nevent: endpoint\ndata: /m?sessionId=a~me\n\n' },
  { claim: 'UTF-8 elsewhere in the URL', stream: 'event: endpoint\ndata: /caf\xc3\xa9?sessionId=a\n\n', id: 'a', out: 'event: endpoint\ndata: /caf\xc3\xa9?sessionId=a~me\n\n' },
  { claim: 'other events before', stream: 'event: ping\ndata: 1\n\ndata: hello\n\nevent: message\ndata: {"a":"/m?sessionId=x"}\n\ndata:\n\nevent: endpoint\ndata: /m?sessionId=abc\n\n', id: 'abc', out: 'event: ping\ndata: 1\n\ndata: hello\n\nevent: message\ndata: {"a":"/m?sessionId=x"}\n\ndata:\n\nevent: endpoint\ndata: /m?sessionId=abc~me\n\n' },
  { claim: 'a URL in an event without a name before', stream: 'data: /m?sessionId=a\n\nevent: endpoint\ndata: /m?sessionId=b\n\n', id: 'b', out: 'data: /m?sessionId=a\n\nevent: endpoint\ndata: /m?sessionId=b~me\n\n' },
  { claim: 'data over two lines before', stream: 'event: endpoint\ndata: /m?sessionId=a\ndata: b\n\nevent: endpoint\ndata: /m?sessionId=c\n\n', id: 'c', out: 'event: endpoint\ndata: /m?sessionId=a\ndata: b\n\nevent: endpoint\ndata: /m?sessionId=c~me\n\n' },
  { claim: 'blanks around the URL', stream: 'event: endpoint\ndata: \t  /m?sessionId=abc \t \n\n', id: 'abc', out: 'event: endpoint\ndata: \t  /m?sessionId=abc~me \t \n\n' },
  { claim: 'no known id in the query', stream: 'event: endpoint\ndata: /sse?sessionid=abc\n\n', id: TOKEN, out: `event: endpoint\ndata: /sse?sessionid=abc&fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'no query', stream: 'event: endpoint\ndata: /mcp/messages/abc\n\n', id: TOKEN, out: `event: endpoint\ndata: /mcp/messages/abc?fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'an empty query', stream: 'event: endpoint\ndata: /m?\n\n', id: TOKEN, out: `event: endpoint\ndata: /m?&fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'a query alone', stream: 'event: endpoint\ndata: ?clientId=abc\n\n', id: TOKEN, out: `event: endpoint\ndata: ?clientId=abc&fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'a relative URL', stream: 'event: endpoint\ndata: messages/abc\n\n', id: TOKEN, out: `event: endpoint\ndata: messages/abc?fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'a fragment', stream: 'event: endpoint\ndata: /m#?sessionId=a\n\n', id: TOKEN, out: `event: endpoint\ndata: /m?fly-affinity=${TOKEN}~me#?sessionId=a\n\n` },
  { claim: 'an empty id', stream: 'event: endpoint\ndata: /m?sessionId=\n\n', id: TOKEN, out: `event: endpoint\ndata: /m?sessionId=&fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'two different ids', stream: 'event: endpoint\ndata: /m?sessionId=a&sessionId=b\n\n', id: TOKEN, out: `event: endpoint\ndata: /m?sessionId=a&sessionId=b&fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'an absolute URL of our own origin', stream: 'event: endpoint\ndata: https://A.B:443/m/abc\n\n', id: TOKEN, out: `event: endpoint\ndata: https://A.B:443/m/abc?fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'a URL without a scheme of our own origin', stream: 'event: endpoint\ndata: //a.b/m/abc\n\n', id: TOKEN, out: `event: endpoint\ndata: //a.b/m/abc?fly-affinity=${TOKEN}~me\n\n` },
  { claim: 'a second endpoint after it', stream: 'event: endpoint\ndata: /m?sessionId=a\n\nevent: endpoint\ndata: /m?sessionId=b\n\n', id: 'a', out: 'event: endpoint\ndata: /m?sessionId=a~me\n\nevent: endpoint\ndata: /m?sessionId=b\n\n' },
];

/** Where the value of the line begins that differs. */
function startOfChange(stream: string, out: string): number {
  const at = stream.split('').findIndex((character, i) => character !== out[i]);
  const [field = ''] = /data: ?[^\r\n]*$/.exec(stream.slice(0, at)) ?? [];
  return at - field.length + 'data: '.length;
}

for (const { claim, stream, id, out } of TAUGHT) {
  test(`an endpoint is discovered and hinted: ${claim}`, () => {
    const passed = pass([stream]);
    assert.equal(passed.id, id);
    assert.equal(passed.out, out);
    assert.ok(passed.isDone);
  });
  test(`an endpoint is discovered one byte at a time: ${claim}`, () => {
    const passed = pass(stream.split(''));
    assert.equal(passed.id, id);
    assert.equal(passed.out, out);
    assert.ok(
      passed.early.join('').length <= startOfChange(stream, out),
      'no part of the URL is output before',
    );
  });
}

// prettier-ignore
const UNTAUGHT: readonly (readonly [claim: string, stream: string])[] = [
  ['another event', 'event: message\ndata: /m?sessionId=a\n\n'],
  ['a name that is reset with its event', 'event: endpoint\n\ndata: /m?sessionId=a\n\n'],
  ['two names for one event', 'event: endpoint\nevent: message\ndata: /m?sessionId=a\n\n'],
  ['a field name in capitals', 'Event: endpoint\nData: /m?sessionId=a\n\n'],
  ['a name with a space before', 'event:  endpoint\ndata: /m?sessionId=a\n\n'],
  ['an indented field', ' event: endpoint\ndata: /m?sessionId=a\n\n'],
  ['data over two lines', 'event: endpoint\ndata: /m?sessionId=a\ndata: b\n\n'],
  ['data over two lines, the second empty', 'event: endpoint\ndata: /m?sessionId=a\ndata\n\n'],
  ['data over two lines, the first empty', 'event: endpoint\ndata:\ndata: /m?sessionId=a\n\n'],
  ['a URL of another origin', 'event: endpoint\ndata: https://other/m/abc\n\n'],
  ['a URL of another port', 'event: endpoint\ndata: http://a.b:8080/m/abc\n\n'],
  ['a URL of another scheme', 'event: endpoint\ndata: wss:/m/abc\n\n'],
  ['a word that is no URL', 'event: endpoint\ndata: ready\n\n'],
  ['no data', 'event: endpoint\ndata:\n\n'],
  ['JSON with a URL in it', 'event: endpoint\ndata: {"uri":"/m?sessionId=a"}\n\n'],
  ['a space in the URL', 'event: endpoint\ndata: /m m?sessionId=a\n\n'],
  ['an event that never ends', 'event: endpoint\ndata: /m?sessionId=a\n'],
  ['a line that never ends', 'event: endpoint\ndata: /m?sessionId=a'],
  ['a second byte order mark', '\xef\xbb\xbf\xef\xbb\xbfevent: endpoint\ndata: /m?sessionId=a\n\n'],
  ['a line of 20,000 bytes', `event: endpoint\ndata: /${'m'.repeat(20_000)}?sessionId=a\n\n`],
  ['20,000 bytes after the URL', `event: endpoint\ndata: /m?sessionId=a\n${'id: x\n'.repeat(4_000)}\n`],
  ['another content than an event stream', '\x1f\x8b\x08\0\0\0\0\0'],
  ['nothing', ''],
];

for (const [claim, stream] of UNTAUGHT) {
  test(`a stream passes unchanged: ${claim}`, () => {
    for (const chunks of [[stream], stream.split('')]) {
      const passed = pass(chunks);
      assert.equal(passed.id, undefined);
      assert.equal(passed.out, stream);
    }
  });
}

test('without hints the event is discovered and passes unchanged', () => {
  const stream = 'event: endpoint\ndata: /m?sessionId=abc\n\n';
  assert.deepEqual(pass([stream], openInspector(false)), {
    out: stream,
    id: 'abc',
    early: [],
    isDone: true,
  });
});

test('an ordinary stream is not delayed: data that cannot be the URL is output with its chunk', () => {
  // prettier-ignore
  const chunks = [': ping\n', '\n', 'ret', 'ry: 5\n', 'id: 7\n', 'eve', 'nt: end', 'point\n', 'dat', 'a:', ' ', '{'];
  const inspector = openInspector();
  for (const chunk of chunks.slice(0, -2)) {
    const { out, isDone } = inspector.push(Buffer.from(chunk));
    assert.equal(Buffer.from(out ?? []).toString(), chunk);
    assert.equal(isDone, false);
  }
  assert.equal(inspector.push(Buffer.from(' ')).out, undefined);
  assert.equal(Buffer.from(inspector.push(Buffer.from('{')).out ?? []).toString(), ' {');
});

test('what can not be the URL is output with its chunk', () => {
  // prettier-ignore
  for (const chunk of ['event: message\n', 'data: {', 'data: [1', 'data: "x', 'data: two words', 'data: x\n', 'data\n', 'event\n', 'event: message\ndata: /m', 'data: /m\ndata: /n\n']) {
    const { out } = openInspector().push(Buffer.from(chunk));
    assert.equal(Buffer.from(out ?? []).toString(), chunk);
  }
});

test('after 16 KB without the event, later chunks are passed on as the same objects', () => {
  const inspector = openInspector();
  const event = Buffer.from('event: message\ndata: {"a":1}\n\n');
  let isDone = false;
  for (let bytes = 0; bytes <= 16_384; bytes += event.length) {
    const pushed = inspector.push(event);
    assert.deepEqual(Buffer.from(pushed.out ?? []), event);
    isDone = pushed.isDone;
  }
  assert.ok(isDone);
  assert.equal(inspector.push(event).out, event);
  assert.equal(inspector.end().out, undefined);
});

for (const [claim, target, stream, out] of [
  [
    'the stream was opened with its id',
    '/sse?sessionId=old',
    '/m?sessionId=old',
    `/m?sessionId=old&fly-affinity=${TOKEN}~me`,
  ],
  [
    'the stream was opened with its id and a hint',
    '/sse?sessionId=old~m2',
    '/m?sessionId=old',
    `/m?sessionId=old&fly-affinity=${TOKEN}~me`,
  ],
  [
    'a name before its own stands for a tenant',
    '/sse?session_id=tenant',
    '/m?session_id=tenant&sessionId=new',
    `/m?session_id=tenant&sessionId=new&fly-affinity=${TOKEN}~me`,
  ],
] as const) {
  test(`a URL gets the sidecar's own parameter if ${claim}`, () => {
    const passed = pass([`event: endpoint\ndata: ${stream}\n\n`], openInspector(true, get(target)));
    assert.equal(passed.id, TOKEN);
    assert.equal(passed.out, `event: endpoint\ndata: ${out}\n\n`);
  });
}

test('at most 16 KB are buffered', () => {
  const inspector = openInspector();
  inspector.push(Buffer.from('event: endpoint\ndata: /'));
  let heldBytes = ' /'.length;
  for (;;) {
    const { out, isDone } = inspector.push(Buffer.alloc(1_000, 'm'));
    heldBytes += 1_000;
    if (isDone) {
      assert.equal(out?.length, heldBytes);
      break;
    }
    assert.ok(heldBytes <= 16_384);
  }
});

test('the event is output with its discovered id and all that arrived with it', () => {
  const inspector = openInspector();
  const first = inspector.push(Buffer.from('event: endpoint\ndata: /m?sessionId=a\n'));
  assert.deepEqual(first.discovered, []);
  const { out, discovered, isDone } = inspector.push(Buffer.from('\nevent: message\ndata: b\n\n'));
  assert.deepEqual(
    discovered.map(({ id, protocol }) => [id, protocol.name]),
    [['a', 'mcp-sse']],
  );
  assert.equal(
    Buffer.from(out ?? []).toString(),
    ' /m?sessionId=a~me\n\nevent: message\ndata: b\n\n',
  );
  assert.ok(isDone);
});

const anyLineEnd = fc.constantFrom('\n', '\r\n', '\r');
/** Lines that neither form an endpoint event nor rule it out. */
const anyFiller = fc.array(
  fc.constantFrom(': comment', ':', 'retry: 1', 'id: 2', 'id', 'unknown: x', ''),
  { maxLength: 4 },
);
const anyId = fc.stringMatching(/^[A-Za-z0-9_.~-]{1,40}$/);

test('however a stream is split and its lines end, its endpoint is discovered and nothing else changes', () => {
  fc.assert(
    fc.property(
      anyId,
      anyFiller,
      anyFiller.map((lines) => lines.filter((line) => line !== '')),
      anyLineEnd,
      anyLineEnd,
      fc.constantFrom('', '\xef\xbb\xbf'),
      fc.string({ unit: 'binary-ascii' }),
      fc.array(fc.nat(), { maxLength: 40 }),
      (id, before, within, one, other, mark, rest, cuts) => {
        const write = (text: string): string =>
          mark +
          [...before, 'event: endpoint'].map((line) => line + one).join('') +
          [`data: /m?a=~b&session_id=${text}&c`, ...within].map((line) => line + other).join('') +
          // After a CR this would be the second half of one line ending.
          (other === '\r' ? '\r' : '\n') +
          rest;
        const passed = pass(cutText(write(id), cuts));
        assert.equal(passed.id, id);
        assert.equal(passed.out, write(`${id}~me`));
      },
    ),
    { numRuns: 1_000 },
  );
});

test('however it is split, a stream of any bytes reveals the same id and is output unchanged', () => {
  const anyPiece = fc.constantFrom(
    ...[
      'event',
      'data',
      ':',
      ' ',
      'endpoint',
      '/m?sessionId=a',
      '&',
      'b',
      '\n',
      '\r',
      '\r\n',
      '\xef\xbb\xbf',
      '{',
    ],
  );
  fc.assert(
    fc.property(
      fc.array(anyPiece, { maxLength: 30 }),
      fc.array(fc.nat(), { maxLength: 30 }),
      (pieces, cuts) => {
        const stream = pieces.join('');
        const whole = pass([stream]);
        const inPieces = pass(cutText(stream, cuts));
        assert.equal(inPieces.out, whole.out);
        assert.equal(inPieces.id, whole.id);
        assert.equal(whole.out.replace(`&fly-affinity=${TOKEN}`, '').replace('~me', ''), stream);
      },
    ),
    { numRuns: 3_000 },
  );
});

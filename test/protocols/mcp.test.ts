import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import { createTestClock } from '../support/clock.ts';
import { cutText, passBody } from './bodies.ts';
import { responseWith, get, machine, post, protocolsOf } from './heads.ts';

const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc');
const readIds = createRequestIdReader(PROTOCOLS, { hints: true });
const discoverer = createDiscoverer(PROTOCOLS, {
  hints: true,
  self: machine('me'),
  clock: createTestClock(),
  createId: () => 'token',
});

const NEW = ['MCP-Protocol-Version', '2026-07-28'];
const requestOf = (method: string, ...more: string[]): RequestHead =>
  post('/mcp', ...NEW, 'Mcp-Method', method, ...more);
const CALL = requestOf('tools/call', 'Mcp-Name', 'hello_world');
const JSON_RESPONSE = responseWith(200, 'content-type', 'application/json', 'content-length', '5');
const STREAM = responseWith(200, 'content-type', 'text/event-stream');

// prettier-ignore
const REQUESTS: readonly (readonly [claim: string, head: RequestHead, says: string])[] = [
  ['tasks/get names its task', requestOf('tasks/get', 'Mcp-Name', 'abc'), 'abc'],
  ['tasks/update does', requestOf('tasks/update', 'mcp-name', 'abc'), 'abc'],
  ['tasks/cancel does', requestOf('tasks/cancel', 'Mcp-Name', 'abc'), 'abc'],
  ['tools/call names a tool', CALL, 'none'],
  ['tasks/list is none of them', requestOf('tasks/list', 'Mcp-Name', 'abc'), 'none'],
  ['method names are case-sensitive', requestOf('Tasks/Get', 'Mcp-Name', 'abc'), 'none'],
  ['a GET requests no task', { ...requestOf('tasks/get', 'Mcp-Name', 'abc'), method: 'GET' }, 'none'],
  ['a newer revision has tasks too', post('/', 'mcp-protocol-version', '2027-01-01', 'mcp-method', 'tasks/get', 'mcp-name', 'a'), 'a'],
  ['an older revision has them in its session', post('/', 'mcp-protocol-version', '2025-11-25', 'mcp-method', 'tasks/get', 'mcp-name', 'a', 'mcp-session-id', 's'), 's'],
  ['no revision counts as an older one', post('/', 'mcp-method', 'tasks/get', 'mcp-name', 'a'), 'none'],
  ['a session id is ignored', requestOf('tasks/get', 'Mcp-Name', 'abc', 'mcp-session-id', 's'), 'abc'],
  ['an encoded name is decoded', requestOf('tasks/get', 'Mcp-Name', '=?base64?PT9hP2I/Yz89?='), '=?a?b?c?='],
  ['an encoding in capitals is a name', requestOf('tasks/get', 'Mcp-Name', '=?BASE64?YWJj?='), '=?BASE64?YWJj?='],
  ['invalid base64 is a name', requestOf('tasks/get', 'Mcp-Name', '=?base64?!?='), '=?base64?!?='],
  ['a name with other characters than ASCII', requestOf('tasks/get', 'Mcp-Name', '=?base64?w6k=?='), '\xc3\xa9'],
  ['an empty name is ignored', requestOf('tasks/get', 'Mcp-Name', ''), 'none'],
  ['a suffix like a hint belongs to it', requestOf('tasks/get', 'Mcp-Name', 'a~m1'), 'a~m1'],
  ['two different names are a conflict', requestOf('tasks/get', 'Mcp-Name', 'a', 'Mcp-Name', 'b'), 'conflict mcp-name'],
  ['two different methods are ignored', requestOf('tasks/get', 'Mcp-Method', 'tasks/cancel', 'Mcp-Name', 'a'), 'none'],
];
for (const [claim, head, expected] of REQUESTS) {
  test(`a task of MCP: ${claim}`, () => {
    const ids = readIds(head);
    const id = ids.kind === 'found' ? ids.id : ids.kind;
    assert.equal(ids.kind === 'conflict' ? `conflict ${ids.name}` : id, expected);
  });
}

function openInspector(response: ResponseHead, request = CALL): BodyInspector {
  const { inspector } = discoverer.inspectHead(request, readIds(request), response);
  assert.ok(inspector);
  return inspector;
}

const TASK =
  '{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"786512e2","status":"working","ttlMs":60000}}';
const PROGRESS =
  '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}';

// prettier-ignore
const MESSAGES: readonly (readonly [claim: string, message: string, id: string | undefined])[] = [
  ['a task', TASK, '786512e2'],
  ['a task among other fields', `{"result":{"_meta":{},"taskId":"t-1","resultType":"task"}}`, 't-1'],
  ['not a later response about a task', TASK.replace('"task"', '"complete"'), undefined],
  ['not a notification of a task', '{"method":"notifications/tasks","params":{"resultType":"task","taskId":"a"}}', undefined],
  ['not an error', '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"task"}}', undefined],
  ['not a task of 2025-11-25', '{"result":{"task":{"taskId":"a"}}}', undefined],
  ['not a task within a content', '{"result":{"content":[{"resultType":"task","taskId":"a"}]}}', undefined],
  ['not an id that is not a string', '{"result":{"resultType":"task","taskId":5}}', undefined],
  ['not a malformed id', '{"result":{"resultType":"task","taskId":"a\\tb"}}', undefined],
  ['not a list', `[${TASK}]`, undefined],
  ['not half a message', TASK.slice(0, -1), undefined],
  ['nothing from an empty body', '', undefined],
];
for (const [claim, message, id] of MESSAGES) {
  test(`a call of MCP gets ${claim}, as JSON or in a stream`, () => {
    const stream = `event: message\ndata: ${message}\n\n`;
    for (const [body, response] of [
      [message, JSON_RESPONSE],
      [stream, STREAM],
    ] as const) {
      for (const chunks of [[body], body.split('')]) {
        const passed = passBody(openInspector(response), chunks);
        assert.equal(passed.id, id);
        assert.equal(passed.out, body);
        assert.ok(id === undefined || !passed.early.includes(id), 'no id is output before');
      }
    }
  });
}

// prettier-ignore
const STREAMS: readonly (readonly [claim: string, stream: string, id: string | undefined])[] = [
  ['after progress', `data: ${PROGRESS}\n\n`.repeat(20) + `data: ${TASK}\n\n`, '786512e2'],
  ['after comments and other fields', `: ping\n\nretry: 5\nid: 1\nevent: message\ndata: ${TASK}\n\n`, '786512e2'],
  ['after an event without data, which primes a reconnect', `id: 1\ndata: \n\ndata: ${TASK}\n\n`, '786512e2'],
  ['with a byte order mark', `\xef\xbb\xbfdata: ${TASK}\n\n`, '786512e2'],
  ['without a space', `data:${TASK}\n\n`, '786512e2'],
  ['over several lines', `data: {"result":{"resultType":"task",\ndata: "taskId":"a"}}\n\n`, 'a'],
  ['at the end of a stream that breaks off after its line', `data: ${TASK}\n`, '786512e2'],
  ['at the end of a stream that breaks off before its line ends', `data: ${TASK}`, '786512e2'],
  ['but not in another field', `event: ${TASK}\n\n`, undefined],
  ['but not in a field that begins like data', `data2: ${TASK}\n\n`, undefined],
  ['but not after 16 KB', `data: ${PROGRESS}\n\n`.repeat(200) + `data: ${TASK}\n\n`, undefined],
];
for (const end of ['\n', '\r\n', '\r']) {
  for (const [claim, written, id] of STREAMS) {
    test(`a task in a stream with lines that end in ${JSON.stringify(end)} is discovered: ${claim}`, () => {
      const stream = written.replaceAll('\n', end);
      for (const chunks of [[stream], stream.split('')]) {
        const passed = passBody(openInspector(STREAM), chunks);
        assert.equal(passed.id, id);
        assert.equal(passed.out, stream);
      }
    });
  }
}

test('a chunk that reveals no id is output as soon as it is complete', () => {
  const inspector = openInspector(STREAM);
  for (const chunk of [
    ': ping\n',
    '\n',
    'event: message\n',
    `data: ${PROGRESS}\n\n`,
    'id: 1\r\n',
  ]) {
    assert.equal(Buffer.from(inspector.push(Buffer.from(chunk)).out ?? []).toString(), chunk);
  }
  assert.equal(inspector.push(Buffer.from('data: {')).out, undefined);
});

test('at most 16 KB of a stream are buffered, and what follows passes unchanged', () => {
  const inspector = openInspector(STREAM);
  assert.equal(inspector.push(Buffer.from('data: '.padEnd(16_384, 'x'))).out, undefined);
  const { out, isDone } = inspector.push(Buffer.from('y'));
  assert.equal(out?.length, 16_385);
  assert.ok(isDone);
  const chunk = Buffer.from('z');
  assert.equal(inspector.push(chunk).out, chunk);
});

// prettier-ignore
const TAPPED: readonly (readonly [claim: string, request: RequestHead, response: ResponseHead, isInspected: boolean])[] = [
  ['a call', CALL, JSON_RESPONSE, true],
  ['a call with a stream as its response', CALL, STREAM, true],
  ['not a call of an older revision', post('/mcp', 'mcp-protocol-version', '2025-11-25', 'mcp-method', 'tools/call'), JSON_RESPONSE, false],
  ['not a request about a task', requestOf('tasks/get', 'Mcp-Name', 'a'), JSON_RESPONSE, false],
  ['not a list', requestOf('tools/list'), JSON_RESPONSE, false],
  ['not a stream of notifications', requestOf('subscriptions/listen'), STREAM, false],
  ['not a GET', get('/mcp', ...NEW, 'mcp-method', 'tools/call'), JSON_RESPONSE, false],
  ['not an error', CALL, responseWith(400, 'content-type', 'application/json'), false],
  ['not compressed', CALL, responseWith(200, 'content-type', 'application/json', 'content-encoding', 'br'), false],
];
for (const [claim, request, response, isInspected] of TAPPED) {
  test(`the response is inspected for a task: ${claim}`, () => {
    const { inspector, rawHeaders } = discoverer.inspectHead(request, readIds(request), response);
    assert.equal(inspector !== undefined, isInspected);
    assert.equal(rawHeaders, undefined);
  });
}

test('only a call is requested uncompressed', () => {
  assert.ok(discoverer.mayRevealInBody(CALL, readIds(CALL)));
  for (const other of [requestOf('tools/list'), requestOf('tasks/get', 'mcp-name', 'a')]) {
    assert.ok(!discoverer.mayRevealInBody(other, readIds(other)));
  }
});

test('however a stream is split, it reveals the same id and is output unchanged', () => {
  const anyPiece = fc.constantFrom(
    ...[
      'data',
      ':',
      ' ',
      TASK,
      PROGRESS,
      '\n',
      '\r',
      '\r\n',
      '\n\n',
      ': ping',
      'event: message',
      '\xef\xbb\xbf',
      '{',
      'x',
    ],
  );
  fc.assert(
    fc.property(
      fc.array(anyPiece, { maxLength: 24 }),
      fc.array(fc.nat(), { maxLength: 24 }),
      (pieces, cuts) => {
        const stream = pieces.join('');
        const whole = passBody(openInspector(STREAM), [stream]);
        const inPieces = passBody(openInspector(STREAM), cutText(stream, cuts));
        assert.equal(whole.out, stream);
        assert.equal(inPieces.out, stream);
        assert.equal(inPieces.id, whole.id);
      },
    ),
    { numRuns: 3_000 },
  );
});

import type { BodyInspector } from '../../src/protocols/body-inspector.ts';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import ts from 'typescript';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createDiscoverer } from '../../src/protocols/discoveries.ts';
import type { Preset } from '../../src/protocols/presets.ts';
import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import { createTestClock } from '../support/clock.ts';
import { cutText, passBody } from './bodies.ts';
import { responseWith, get, machine, post, protocolsOf } from './heads.ts';

const README = path.join(import.meta.dirname, '../../src/protocols/README.md');
const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,socket.io,signalr,cookie:sid');
const readIds = createRequestIdReader(PROTOCOLS, { hints: true });
const discoverer = createDiscoverer(PROTOCOLS, {
  hints: true,
  self: machine('me'),
  clock: createTestClock(),
  createId: () => 'token',
});

const POLL = get('/socket.io/?EIO=4&transport=polling&t=abc');
const POLLED = responseWith(200, 'Content-Type', 'text/plain; charset=UTF-8');
const NEGOTIATE = post('/hub/negotiate?negotiateVersion=1');
const NEGOTIATED = responseWith(200, 'content-type', 'application/json');

function inspectorFor(request: RequestHead, response: ResponseHead): BodyInspector | undefined {
  return discoverer.inspectHead(request, readIds(request), response).inspector;
}

function openInspector(request: RequestHead, response: ResponseHead): BodyInspector {
  const inspector = inspectorFor(request, response);
  assert.ok(inspector);
  return inspector;
}

const OPEN =
  '0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}';
const SID = 'lv_VI97HAXpY6yYWAAAC';
const BINARY_LENGTH = String.fromCharCode(0, 1, 0, 0, 255);

// prettier-ignore
const ENGINE_IO: readonly (readonly [claim: string, body: string, id: string | undefined])[] = [
  ['alone', OPEN, SID],
  ['with other packets behind it (4)', `${OPEN}\x1e40{"sid":"other"}`, SID],
  ['behind its length (3)', `${OPEN.length}:${OPEN}2:40`, SID],
  ['behind its length in bytes (3)', `\x00${BINARY_LENGTH.slice(1)}${OPEN}`, SID],
  ['in the call of a function (JSONP)', `___eio[0](${JSON.stringify(`${OPEN.length}:${OPEN}2:40`)});`, SID],
  ['with 20 KB behind it', `${OPEN}\x1e4${'x'.repeat(20_000)}`, SID],
  ['but not another packet', '40{"sid":"abc"}', undefined],
  ['but not behind another packet', `6\x1e${OPEN}`, undefined],
  ['but not an error', '{"code":1,"message":"Session ID unknown"}', undefined],
  ['but not a handshake without an id', '0{"upgrades":[]}', undefined],
  ['but not an id that is not a string', '0{"sid":5}', undefined],
  ['but not a malformed id', '0{"sid":"a\\tb"}', undefined],
  ['but not a truncated packet', OPEN.slice(0, -1), undefined],
  ['but not other text', 'hello', undefined],
  ['but not endless digits', '1'.repeat(40_000), undefined],
  ['but not an empty body', '', undefined],
];
for (const [claim, body, id] of ENGINE_IO) {
  test(`the open packet of Engine.IO reveals: ${claim}`, () => {
    for (const chunks of [[body], body.split('')]) {
      const passed = passBody(openInspector(POLL, POLLED), chunks);
      assert.equal(passed.id, id);
      assert.equal(passed.out, body);
      if (id !== undefined) assert.equal(passed.early, '', 'no output before it is discovered');
    }
  });
}

const TOKEN = 'zP3NrZ9eqOVhWvSpsNfHXg';
// prettier-ignore
const SIGNALR: readonly (readonly [claim: string, body: string, id: string | undefined])[] = [
  ['the token of version 1', `{"negotiateVersion":1,"connectionId":"public","connectionToken":"${TOKEN}","availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`, TOKEN],
  ['the id of version 0', `{"connectionId":"${TOKEN}","availableTransports":[]}`, TOKEN],
  ['the id of version 0 with an explicit version', `{"negotiateVersion":0,"connectionId":"${TOKEN}","connectionToken":"x"}`, TOKEN],
  ['but no id where version 1 has no token', `{"negotiateVersion":1,"connectionId":"${TOKEN}"}`, undefined],
  ['but nothing from a redirect', `{"url":"https://other/hub","accessToken":"${TOKEN}","connectionToken":"${TOKEN}","negotiateVersion":1}`, undefined],
  ['but nothing from an error', '{"negotiateVersion":1,"error":"no"}', undefined],
  ['but nothing from a list', `[{"connectionId":"${TOKEN}"}]`, undefined],
  ['but nothing from half a response', `{"connectionId":"${TOKEN}"`, undefined],
  ['but nothing from more than 16 KB', `{"connectionId":"${TOKEN}","x":"${'x'.repeat(20_000)}"}`, undefined],
];
for (const [claim, body, id] of SIGNALR) {
  test(`a negotiation of SignalR reveals ${claim}`, () => {
    for (const chunks of [[body], body.split('')]) {
      const passed = passBody(openInspector(NEGOTIATE, NEGOTIATED), chunks);
      assert.equal(passed.id, id);
      assert.equal(passed.out, body);
    }
  });
}

const JSON_TYPE = ['content-type', 'application/json'];
// prettier-ignore
const TAPPED: readonly (readonly [claim: string, request: RequestHead, response: ResponseHead, isInspected: boolean])[] = [
  ['a handshake by polling', POLL, POLLED, true],
  ['a handshake by polling whose query is in another order', get('/x/?transport=polling&EIO=3'), responseWith(200, 'content-type', 'application/octet-stream'), true],
  ['not a poll of a session', get('/socket.io/?EIO=4&transport=polling&sid=abc'), POLLED, false],
  ['a handshake within a session of another protocol', get('/socket.io/?EIO=4&transport=polling', 'cookie', 'sid=a'), POLLED, true],
  ['not a handshake by WebSocket', get('/socket.io/?EIO=4&transport=websocket'), POLLED, false],
  ['not a query that only looks like polling', get('/?transport=polling'), POLLED, false],
  ['not a POST', post('/socket.io/?EIO=4&transport=polling'), POLLED, false],
  ['not an error', POLL, responseWith(400, 'content-type', 'text/plain'), false],
  ['not another type', POLL, responseWith(200, 'content-type', 'text/html'), false],
  ['not compressed', POLL, responseWith(200, 'content-type', 'text/plain', 'content-encoding', 'gzip'), false],
  ['not a replay', POLL, responseWith(200, 'content-type', 'text/plain', 'fly-replay', 'instance=a'), false],
  ['a negotiation', NEGOTIATE, NEGOTIATED, true],
  ['a negotiation without a query', post('/negotiate'), NEGOTIATED, true],
  ['not a negotiation in the query alone', post('/hub?/negotiate'), NEGOTIATED, false],
  ['not a path that only begins like one', post('/hub/negotiated'), NEGOTIATED, false],
  ['not a GET of it', get('/hub/negotiate'), NEGOTIATED, false],
  ['not any other JSON', post('/api'), responseWith(200, ...JSON_TYPE), false],
];
for (const [claim, request, response, isInspected] of TAPPED) {
  test(`a body is inspected: ${claim}`, () => {
    assert.equal(inspectorFor(request, response) !== undefined, isInspected);
  });
}

test('a response that may reveal an id in its body is requested uncompressed, and no other is', () => {
  const mayReveal = (head: RequestHead): boolean => discoverer.mayRevealInBody(head, readIds(head));
  assert.ok(mayReveal(POLL));
  assert.ok(mayReveal(NEGOTIATE));
  assert.ok(!mayReveal(get('/socket.io/?EIO=4&transport=polling&sid=abc')));
  assert.ok(!mayReveal(post('/api')));
});

test('an announced length stays, as nothing is rewritten', () => {
  const response = responseWith(200, 'content-type', 'text/plain', 'content-length', '97');
  assert.equal(discoverer.inspectHead(POLL, readIds(POLL), response).rawHeaders, undefined);
});

test('a body with another beginning passes immediately, as the very chunks that arrived', () => {
  const inspector = openInspector(NEGOTIATE, NEGOTIATED);
  const chunk = Buffer.from('not JSON');
  const { out, isDone } = inspector.push(chunk);
  assert.equal(out, chunk);
  assert.ok(isDone);
});

test('at most 16 KB are buffered', () => {
  const inspector = openInspector(NEGOTIATE, NEGOTIATED);
  assert.equal(inspector.push(Buffer.from('{'.padEnd(16_384))).out, undefined);
  assert.equal(inspector.push(Buffer.from(' ')).out?.length, 16_385);
});

test('however a body is split, it reveals the same id and is output unchanged', () => {
  const anyPiece = fc.constantFrom(
    ...[
      '0',
      '{"sid":"',
      'abc',
      '"}',
      ':',
      '96',
      '\x00',
      '\x01',
      '\xff',
      '\x1e',
      '{',
      '}',
      '"',
      '\\',
      ' ',
      '4',
    ],
  );
  const anyBody = fc.array(anyPiece, { maxLength: 12 }).map((pieces) => pieces.join(''));
  const anyCuts = fc.array(fc.nat(), { maxLength: 12 });
  fc.assert(
    fc.property(fc.oneof(anyBody, fc.constant(OPEN)), anyCuts, (body, cuts) => {
      const whole = passBody(openInspector(POLL, POLLED), [body]);
      const inPieces = passBody(openInspector(POLL, POLLED), cutText(body, cuts));
      assert.equal(whole.out, body);
      assert.deepEqual({ ...inPieces, early: '' }, { ...whole, early: '' });
    }),
    { numRuns: 2_000 },
  );
});

test('a custom protocol is a row: the example in the README is discovered, and found again', () => {
  const row = /```ts\n(\/\*\* A PUT reserves[^]*?)```/.exec(readFileSync(README, 'utf8'))?.[1];
  const presets = runInNewContext(ts.transpile(`({${row ?? ''}})`)) as Record<string, Preset>;
  const protocol = presets['graphql-sse']?.protocols[0];
  assert.ok(protocol);
  const options = {
    hints: true,
    self: machine('me'),
    clock: createTestClock(),
    createId: () => 'token',
  };
  const request: RequestHead = { ...get('/graphql/stream'), method: 'PUT' };
  const response = responseWith(201, 'content-type', 'text/plain; charset=utf-8');
  const { inspector } = createDiscoverer([protocol], options).inspectHead(
    request,
    { kind: 'none' },
    response,
  );
  assert.ok(inspector);
  assert.equal(passBody(inspector, ['b1f8', '7e1a']).id, 'b1f87e1a');
  const found = createRequestIdReader([protocol], options)(get('/graphql/stream?token=b1f87e1a'));
  assert.equal(found.kind === 'found' && found.id, 'b1f87e1a');
});

/** What goes out with each chunk. */
function outputsOf(chunks: readonly string[]): readonly string[] {
  const inspector = openInspector(NEGOTIATE, NEGOTIATED);
  return chunks.map((chunk) => {
    const { out = [] } = inspector.push(Buffer.from(chunk, 'latin1'));
    return Buffer.from(out).toString('latin1');
  });
}

// prettier-ignore
const UNTIL_WHOLE: readonly (readonly [claim: string, chunks: readonly string[], outputs: readonly string[]])[] = [
  ['an object', [' ', '{"a"', ':1}', '\n{'], ['', '', ' {"a":1}', '\n{']],
  ['a nested one', ['{"a":{}', '}', '{"b":'], ['', '{"a":{}}', '{"b":']],
  ['brackets in a text', ['{"a":"}', '\\"}', '\\\\"', '}', 'x'], ['', '', '', '{"a":"}\\"}\\\\"}', 'x']],
  ['a line with the next', ['{"a":1}\n{"b"', ':2}'], ['{"a":1}\n{"b"', ':2}']],
];
for (const [claim, chunks, outputs] of UNTIL_WHOLE) {
  test(`JSON is held until its first value is whole: ${claim}`, () => {
    assert.deepEqual(outputsOf(chunks), outputs);
  });
}

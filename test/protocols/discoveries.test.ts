import type { RequestHead, ResponseHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { createDiscoverer, type HeadDiscoveries } from '../../src/protocols/discoveries.ts';
import { createTestClock } from '../support/clock.ts';
import { responseWith, get, machine, post, protocolsOf } from './heads.ts';

const PROTOCOLS = protocolsOf('mcp,mcp-sse,rpc,cookie:sid');
const clock = createTestClock(Date.UTC(2026, 5, 1));

/** A sidecar's discoveries in one response, on Machine `me`. */
function discoveriesIn(
  request: RequestHead,
  response: ResponseHead,
  hints = true,
): HeadDiscoveries {
  const discoverer = createDiscoverer(PROTOCOLS, {
    hints,
    self: machine('me'),
    clock,
    createId: () => 'token',
  });
  return discoverer.inspectHead(
    request,
    createRequestIdReader(PROTOCOLS, { hints })(request),
    response,
  );
}

const discoveredIn = (discoveries: HeadDiscoveries): string[] =>
  discoveries.discovered.map(({ id, protocol }) => `${protocol.name} ${id}`);

const INITIALIZE = post('/mcp', 'content-type', 'application/json');
const WITH_COOKIE = get('/', 'cookie', 'sid=abc~me');

interface Row {
  readonly claim: string;
  readonly request: RequestHead;
  readonly response: ResponseHead;
  readonly discovers?: readonly string[];
  /** The headers that the client receives; by default the response's own. */
  readonly reveals?: readonly string[];
  readonly ends?: boolean;
}

// prettier-ignore
const TABLE: readonly Row[] = [
  { claim: 'an id in a header is discovered and hinted', request: INITIALIZE, response: responseWith(200, 'Mcp-Session-Id', 'abc', 'x', 'y'), discovers: ['mcp abc'], reveals: ['Mcp-Session-Id', 'abc~me', 'x', 'y'] },
  { claim: 'an id is discovered from any final response', request: INITIALIZE, response: responseWith(500, 'mcp-session-id', 'abc'), discovers: ['mcp abc'], reveals: ['mcp-session-id', 'abc~me'] },
  { claim: 'an id is discovered from a 101 response', request: INITIALIZE, response: responseWith(101, 'x-session-id', 'abc'), discovers: ['rpc abc'], reveals: ['x-session-id', 'abc~me'] },
  { claim: 'an id is discovered whatever ids the request had', request: post('/', 'mcp-session-id', 'old'), response: responseWith(200, 'mcp-session-id', 'abc'), discovers: ['mcp abc'], reveals: ['mcp-session-id', 'abc~me'] },
  { claim: 'an id is discovered in a revision without sessions', request: post('/', 'mcp-protocol-version', '2026-07-28'), response: responseWith(200, 'mcp-session-id', 'abc'), discovers: ['mcp abc'], reveals: ['mcp-session-id', 'abc~me'] },
  { claim: 'an app may create an id that ends like a hint', request: INITIALIZE, response: responseWith(200, 'mcp-session-id', 'abc~x'), discovers: ['mcp abc~x'], reveals: ['mcp-session-id', 'abc~x~me'] },
  { claim: 'two ids of two protocols are two discoveries', request: get('/'), response: responseWith(200, 'x-session-id', 'abc', 'Set-Cookie', 'sid=def'), discovers: ['rpc abc', 'cookie:sid def'], reveals: ['x-session-id', 'abc~me', 'Set-Cookie', 'sid=def~me'] },
  { claim: 'one id in two headers is discovered once', request: get('/'), response: responseWith(200, 'x-session-id', 'abc', 'mcp-session-id', 'abc'), discovers: ['mcp abc'], reveals: ['x-session-id', 'abc~me', 'mcp-session-id', 'abc~me'] },
  { claim: 'a response without ids is unchanged', request: INITIALIZE, response: responseWith(200, 'content-type', 'text/plain') },
  { claim: 'an interim response reveals nothing', request: INITIALIZE, response: responseWith(103, 'mcp-session-id', 'abc') },
  { claim: 'a replay reveals nothing', request: INITIALIZE, response: responseWith(200, 'Fly-Replay', 'instance=a', 'mcp-session-id', 'abc') },
  { claim: 'a replay in a body reveals nothing', request: INITIALIZE, response: responseWith(200, 'content-type', 'application/vnd.fly.replay+json; a=b', 'mcp-session-id', 'abc') },
  { claim: 'an empty id is ignored', request: INITIALIZE, response: responseWith(200, 'mcp-session-id', '') },
  { claim: 'a malformed id passes unchanged', request: INITIALIZE, response: responseWith(200, 'mcp-session-id', 'a\tb') },
  { claim: 'an id that is too long passes unchanged', request: INITIALIZE, response: responseWith(200, 'mcp-session-id', 'x'.repeat(32_769)) },
  { claim: 'an id that is returned is not discovered, and keeps its hint', request: post('/', 'mcp-session-id', 'abc~other'), response: responseWith(200, 'Mcp-Session-Id', 'abc'), reveals: ['Mcp-Session-Id', 'abc~other'] },
  { claim: 'an id that arrived without a hint is returned without one', request: post('/', 'mcp-session-id', 'abc'), response: responseWith(200, 'mcp-session-id', 'abc') },
  { claim: 'a client-minted id is returned unchanged', request: get('/?session_id=abc'), response: responseWith(200, 'x-session-id', 'abc') },
  { claim: 'a client-minted id that ends like a hint is returned unchanged', request: get('/', 'x-session-id', 'user~bob'), response: responseWith(200, 'x-session-id', 'user~bob') },
  { claim: 'an id that a request contained anywhere is not discovered', request: post('/', 'mcp-session-id', 'abc~me', 'x-session-id', 'stolen'), response: responseWith(200, 'x-session-id', 'stolen') },
  { claim: 'DELETE ends a session of MCP', request: { ...post('/', 'mcp-session-id', 'abc'), method: 'DELETE' }, response: responseWith(204), ends: true },
  { claim: 'DELETE that the app rejects ends nothing', request: { ...post('/', 'mcp-session-id', 'abc'), method: 'DELETE' }, response: responseWith(405) },
  { claim: 'DELETE that the app replays ends nothing', request: { ...post('/', 'mcp-session-id', 'abc'), method: 'DELETE' }, response: responseWith(200, 'fly-replay', 'instance=a') },
  { claim: 'DELETE has no meaning for other protocols', request: { ...post('/', 'x-session-id', 'abc'), method: 'DELETE' }, response: responseWith(200) },
  { claim: 'a 404 ends nothing', request: post('/', 'mcp-session-id', 'abc'), response: responseWith(404) },
  { claim: 'a cookie is discovered, its attributes stay', request: get('/'), response: responseWith(200, 'Set-Cookie', 'sid=abc; Path=/; HttpOnly; a=~'), discovers: ['cookie:sid abc'], reveals: ['Set-Cookie', 'sid=abc~me; Path=/; HttpOnly; a=~'] },
  { claim: 'a hint goes inside the quotes', request: get('/'), response: responseWith(200, 'set-cookie', 'sid = "abc" ;Secure'), discovers: ['cookie:sid abc'], reveals: ['set-cookie', 'sid = "abc~me" ;Secure'] },
  { claim: 'a cookie at the end of its line', request: get('/'), response: responseWith(200, 'set-cookie', 'sid=abc'), discovers: ['cookie:sid abc'], reveals: ['set-cookie', 'sid=abc~me'] },
  { claim: 'other cookies pass', request: get('/'), response: responseWith(200, 'set-cookie', 'sidx=abc; sid=def', 'set-cookie', 'SID=abc') },
  { claim: 'a cookie that is set again keeps its hint', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=abc; Max-Age=600'), reveals: ['set-cookie', 'sid=abc~me; Max-Age=600'] },
  { claim: 'a new cookie replaces an old one', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=new'), discovers: ['cookie:sid new'], reveals: ['set-cookie', 'sid=new~me'] },
  { claim: 'Max-Age of zero ends it', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=; Path=/; max-age=0'), ends: true },
  { claim: 'a negative Max-Age ends it', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=deleted;MAX-AGE=-1'), ends: true },
  { claim: 'Expires in the past ends it', request: WITH_COOKIE, response: responseWith(302, 'set-cookie', 'sid=x; expires=Thu, 01-Jan-1970 00:00:01 GMT'), ends: true },
  { claim: 'Expires at this moment ends it', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=x; expires=Mon, 01 Jun 2026 00:00:00 GMT'), ends: true },
  { claim: 'Expires in the future does not', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=abc; expires=Mon, 01 Jun 2026 00:00:01 GMT'), reveals: ['set-cookie', 'sid=abc~me; expires=Mon, 01 Jun 2026 00:00:01 GMT'] },
  { claim: 'Max-Age takes precedence over Expires', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=abc; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT'), reveals: ['set-cookie', 'sid=abc~me; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT'] },
  { claim: 'a malformed Max-Age and Expires are ignored', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=abc; Max-Age=none; Expires=0; max-age'), reveals: ['set-cookie', 'sid=abc~me; Max-Age=none; Expires=0; max-age'] },
  { claim: 'a cookie that ends for one path and is set for another lives', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=; Path=/old; Max-Age=0', 'set-cookie', 'sid=abc; Path=/'), reveals: ['set-cookie', 'sid=; Path=/old; Max-Age=0', 'set-cookie', 'sid=abc~me; Path=/'] },
  { claim: 'a cookie that ends while a new one is set has ended', request: WITH_COOKIE, response: responseWith(200, 'set-cookie', 'sid=; Max-Age=0', 'set-cookie', 'sid=new'), discovers: ['cookie:sid new'], reveals: ['set-cookie', 'sid=; Max-Age=0', 'set-cookie', 'sid=new~me'], ends: true },
  { claim: 'a cookie’s end is not the end of another protocol’s session', request: post('/', 'mcp-session-id', 'abc', 'cookie', 'sid=def'), response: responseWith(200, 'set-cookie', 'sid=; Max-Age=0') },
  { claim: 'a cookie’s end without a session is ignored', request: get('/'), response: responseWith(200, 'set-cookie', 'sid=; Max-Age=0') },
  { claim: 'an empty cookie is ignored', request: get('/'), response: responseWith(200, 'set-cookie', 'sid=; Path=/') },
];

for (const { claim, request, response, discovers = [], reveals, ends = false } of TABLE) {
  test(claim, () => {
    const before = [...response.rawHeaders];
    const discoveries = discoveriesIn(request, response);
    assert.deepEqual(discoveredIn(discoveries), discovers);
    assert.deepEqual(discoveries.rawHeaders ?? before, reveals ?? before);
    assert.equal(discoveries.hasEnded, ends);
    assert.equal(discoveries.inspector, undefined);
    assert.deepEqual(response.rawHeaders, before, 'the response itself is not changed');
  });
}

test('without hints the client receives the app’s value', () => {
  const response = responseWith(200, 'mcp-session-id', 'abc', 'set-cookie', 'sid=def');
  const discoveries = discoveriesIn(INITIALIZE, response, false);
  assert.deepEqual(discoveredIn(discoveries), ['mcp abc', 'cookie:sid def']);
  assert.deepEqual(discoveries.rawHeaders, response.rawHeaders);
});

test('a response that reveals nothing is not copied', () => {
  const response = responseWith(200, 'content-type', 'text/html', 'content-length', '5');
  assert.equal(discoveriesIn(get('/'), response).rawHeaders, undefined);
});

const EVENT_STREAM = ['Content-Type', 'text/event-stream; charset=utf-8'];

// prettier-ignore
const STREAMS: readonly (readonly [claim: string, request: RequestHead, response: ResponseHead, isInspected: boolean])[] = [
  ['an event stream for a request without an id is inspected', get('/sse'), responseWith(200, ...EVENT_STREAM), true],
  ['a plain one as well', get('/sse'), responseWith(200, ...EVENT_STREAM, 'content-encoding', 'identity'), true],
  ['a compressed one is inspected', get('/sse'), responseWith(200, ...EVENT_STREAM, 'Content-Encoding', 'gzip'), true],
  ['one of an unknown coding is not inspected', get('/sse'), responseWith(200, ...EVENT_STREAM, 'Content-Encoding', 'gzip, br'), false],
  ['a response to a POST is not inspected', post('/mcp'), responseWith(200, ...EVENT_STREAM), false],
  ['one of a known session is not inspected', get('/mcp', 'mcp-session-id', 'abc'), responseWith(200, ...EVENT_STREAM), false],
  ['one that is opened with an older id is inspected', get('/sse?session_id=abc'), responseWith(200, ...EVENT_STREAM), true],
  ['one within a cookie’s session is inspected', get('/sse', 'cookie', 'sid=abc'), responseWith(200, ...EVENT_STREAM), true],
  ['an error is not inspected', get('/sse'), responseWith(503, ...EVENT_STREAM), false],
  ['a replay is not inspected', get('/sse'), responseWith(200, ...EVENT_STREAM, 'fly-replay', 'instance=a'), false],
  ['another type is not inspected', get('/'), responseWith(200, 'content-type', 'text/html'), false],
];
for (const [claim, request, response, isInspected] of STREAMS) {
  test(`streams: ${claim}`, () => {
    assert.equal(discoveriesIn(request, response).inspector !== undefined, isInspected);
  });
}

test('streams: a hint or a parameter makes them longer, so an announced length is dropped', () => {
  const response = responseWith(200, 'a', 'b', 'Content-Length', '90', ...EVENT_STREAM);
  for (const hints of [true, false]) {
    const { rawHeaders } = discoveriesIn(get('/sse'), response, hints);
    assert.deepEqual(rawHeaders, ['a', 'b', ...EVENT_STREAM]);
  }
});

test('streams: the path of a compressed endpoint is requested uncompressed from then on', () => {
  const discoverer = createDiscoverer(PROTOCOLS, {
    ...{ hints: true, self: machine('me'), clock, createId: () => 'token' },
  });
  const readIds = createRequestIdReader(PROTOCOLS, { hints: true });
  const mayReveal = (request: RequestHead): boolean =>
    discoverer.mayRevealInBody(request, readIds(request));
  const gzip = responseWith(200, ...EVENT_STREAM, 'content-encoding', 'gzip');
  const streamAt = (target: string, text: string): void => {
    const { inspector } = discoverer.inspectHead(get(target), { kind: 'none' }, gzip);
    assert.ok(inspector);
    inspector.push(gzipSync(text));
  };
  streamAt('/chat?a', 'data: {"a":1}\n\n');
  streamAt('/sse?a', 'event: endpoint\ndata: /m/1\n\n');
  assert.equal(mayReveal(get('/chat')), false);
  assert.equal(mayReveal(get('/sse?b')), true);
  assert.equal(mayReveal(post('/sse')), false);
});

test('streams: a partial one is not inspected', () => {
  const response = responseWith(206, ...EVENT_STREAM);
  assert.equal(discoveriesIn(get('/sse'), response).inspector, undefined);
});

test('streams: only a requested event stream is requested uncompressed', () => {
  const discoverer = createDiscoverer(PROTOCOLS, {
    hints: true,
    self: machine('me'),
    clock,
    createId: () => 'token',
  });
  const readIds = createRequestIdReader(PROTOCOLS, { hints: true });
  const may = (head: RequestHead): boolean => discoverer.mayRevealInBody(head, readIds(head));
  assert.equal(may(get('/sse', 'Accept', 'text/html, Text/Event-Stream;q=0.9')), true);
  assert.equal(may(get('/sse', 'accept', 'text/html', 'accept', 'text/event-stream')), true);
  assert.equal(may(get('/', 'accept', '*/*')), false);
  assert.equal(may(get('/')), false);
  assert.equal(may(post('/', 'accept', 'text/event-stream')), false);
  assert.equal(may(get('/', 'accept', 'text/event-stream', 'mcp-session-id', 'abc')), false);
});

test('streams: none is inspected if no protocol discovers ids in them', () => {
  const protocols = protocolsOf('mcp,rpc');
  const discoverer = createDiscoverer(protocols, {
    hints: true,
    self: machine('me'),
    clock,
    createId: () => 'token',
  });
  const request = get('/sse', 'accept', 'text/event-stream');
  assert.equal(discoverer.mayRevealInBody(request, { kind: 'none' }), false);
  const discoveries = discoverer.inspectHead(
    request,
    { kind: 'none' },
    responseWith(200, ...EVENT_STREAM),
  );
  assert.equal(discoveries.inspector, undefined);
});

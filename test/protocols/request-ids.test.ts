import type { RequestHead } from '../../src/protocols/heads.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRequestIdReader } from '../../src/protocols/request-ids.ts';
import { cpuMsOf } from '../support/cpu.ts';
import { DEFAULT_PROTOCOLS, describeIds, get, post, protocolsOf } from './heads.ts';

const byDefault = createRequestIdReader(DEFAULT_PROTOCOLS, { hints: true });
const byCookie = createRequestIdReader(protocolsOf('cookie:sid'), { hints: true });

const LONGEST = 'x'.repeat(32_768);
const JWT = `eyJ${'a.b-_'.repeat(520)}`;
const TOO_LONG = `${LONGEST}x`;

type Row = readonly [claim: string, head: RequestHead, expected: string];

// prettier-ignore
const HEADERS: readonly Row[] = [
  ['a request without headers has none', get('/'), 'none'],
  ['other headers are ignored', get('/', 'Host', 'a', 'Content-Length', '1', 'Content-Type', 'b/c', 'Accept', '*/*'), 'none'],
  ['the header of mcp', post('/mcp', 'mcp-session-id', 'abc'), 'mcp abc'],
  ['the header of mcp in any case', post('/mcp', 'MCP-Session-ID', 'abc'), 'mcp abc'],
  ['the header of rpc', post('/', 'X-Session-Id', 'abc'), 'rpc abc'],
  ['a hint is removed', post('/mcp', 'Mcp-Session-Id', 'abc~m1'), 'mcp abc ~m1'],
  ['the last mark counts', post('/mcp', 'Mcp-Session-Id', 'abc~m1~m2'), 'mcp abc~m1 ~m2'],
  ['a mark without a Machine is part of the id', post('/mcp', 'Mcp-Session-Id', 'abc~'), 'mcp abc~'],
  ['a mark before an invalid Machine id is part of the id', post('/mcp', 'Mcp-Session-Id', 'abc~M1'), 'mcp abc~M1'],
  ['a hint without an id is an id', post('/mcp', 'Mcp-Session-Id', '~m1'), 'mcp ~m1'],
  ['the longest id', post('/mcp', 'Mcp-Session-Id', LONGEST), `mcp ${LONGEST}`],
  ['the longest id with its hint', post('/mcp', 'Mcp-Session-Id', `${LONGEST}~m1`), `mcp ${LONGEST} ~m1`],
  ['too long is ignored', post('/mcp', 'Mcp-Session-Id', TOO_LONG), 'none'],
  ['too long with a hint is ignored', post('/mcp', 'Mcp-Session-Id', `${TOO_LONG}~m1`), 'none'],
  ['empty is ignored', post('/mcp', 'Mcp-Session-Id', ''), 'none'],
  ['a list is one id', post('/mcp', 'Mcp-Session-Id', 'a, b'), 'mcp a, b'],
  ['a space belongs to it', post('/mcp', 'Mcp-Session-Id', 'a b~m1'), 'mcp a b ~m1'],
  ['a token of 2,600 bytes', post('/mcp', 'Mcp-Session-Id', JWT), `mcp ${JWT}`],
  ['a control character makes it invalid', post('/mcp', 'Mcp-Session-Id', 'a\x01b'), 'none'],
  ['a line break makes it invalid', post('/mcp', 'Mcp-Session-Id', 'a\r\nb'), 'none'],
  ['bytes beyond ASCII belong to it', post('/mcp', 'Mcp-Session-Id', 'caf\xe9'), 'mcp caf\xe9'],
  ['two equal ones count as one', post('/mcp', 'mcp-session-id', 'abc', 'Mcp-Session-Id', 'abc'), 'mcp abc'],
  ['two different ones are a conflict', post('/mcp', 'mcp-session-id', 'abc', 'Mcp-Session-Id', 'abd'), 'conflict mcp-session-id'],
  ['two different hints are a conflict', post('/mcp', 'mcp-session-id', 'a~m1', 'mcp-session-id', 'a~m2'), 'conflict mcp-session-id'],
  ['a malformed second one is a conflict', post('/mcp', 'mcp-session-id', 'abc', 'mcp-session-id', ''), 'conflict mcp-session-id'],
  ['after a malformed one the next location is used', post('/?session_id=q', 'mcp-session-id', 'a\x01b'), 'mcp-sse q'],
  ['the first protocol takes precedence', post('/?session_id=q', 'x-session-id', 'x', 'mcp-session-id', 'abc'), 'mcp abc'],
  ['a query takes precedence over the header of rpc', post('/?session_id=q', 'x-session-id', 'x'), 'mcp-sse q'],
];

// prettier-ignore
const QUERIES: readonly Row[] = [
  ['a query without an id', get('/a?b=c&d'), 'none'],
  ['the query of mcp-sse', post('/messages/?session_id=abc'), 'mcp-sse abc'],
  ['the other query of mcp-sse', post('/messages?sessionId=abc'), 'mcp-sse abc'],
  ['a query name is case-sensitive', post('/messages?SessionId=abc'), 'none'],
  ['a longer name is a different one', get('/?session_idx=abc&xsession_id=abc'), 'none'],
  ['between others', get('/?a=1&session_id=abc&b=2'), 'mcp-sse abc'],
  ['empty pairs are ignored', get('/?&&session_id=abc&&'), 'mcp-sse abc'],
  ['an equals sign may be part of the id', get('/?session_id=YWI='), 'mcp-sse YWI='],
  ['a plus sign is literal', get('/?session_id=a+b'), 'mcp-sse a+b'],
  ['escapes are decoded', get('/?session_id=a%2Bb%2fc'), 'mcp-sse a+b/c'],
  ['names are decoded', get('/?session%5Fid=abc'), 'mcp-sse abc'],
  ['names are decoded whatever else is escaped', get('/?x=%20&%73ession_id=abc&y=%zz'), 'mcp-sse abc'],
  ['a malformed escape is literal', get('/?session_id=a%zz'), 'mcp-sse a%zz'],
  ['an escaped space belongs to it', get('/?session_id=a%20b'), 'mcp-sse a b'],
  ['an escaped line break makes it invalid', get('/?session_id=a%0d%0ab'), 'none'],
  ['UTF-8 is read byte by byte', get('/?session_id=%c3%a9'), 'mcp-sse \xc3\xa9'],
  ['an escaped control character makes it invalid', get('/?session_id=a%00b'), 'none'],
  ['a missing value is ignored', get('/?session_id'), 'none'],
  ['an empty value is ignored', get('/?session_id='), 'none'],
  ['a hint', get('/?session_id=abc~m1&x=1'), 'mcp-sse abc ~m1'],
  ['an escaped hint', get('/?session_id=abc%7Em1'), 'mcp-sse abc ~m1'],
  ['an escaped hint in lower case', get('/?session_id=abc%7em1'), 'mcp-sse abc ~m1'],
  ['the path is not a query', get('/session_id=abc'), 'none'],
  ['a fragment is not a query', get('/a#?session_id=abc'), 'none'],
  ['a fragment is not part of the id', get('/a?session_id=abc#x'), 'mcp-sse abc'],
  ['an ampersand in a fragment is no separator', get('/a?b#&session_id=abc'), 'none'],
  ['a second question mark is no separator', get('/a?b=?session_id=abc'), 'none'],
  ['a semicolon is no separator', get('/a?b=1;session_id=abc'), 'none'],
  ['an absolute target', get('http://a/b?session_id=abc'), 'mcp-sse abc'],
  ['an asterisk', { method: 'OPTIONS', target: '*', rawHeaders: [] }, 'none'],
  ['two equal ones count as one', get('/?session_id=a&session_id=a'), 'mcp-sse a'],
  ['two spellings count as one', get('/?session_id=a&session_id=%61'), 'mcp-sse a'],
  ['two different ones are a conflict', get('/?session_id=a&x=1&session_id=b'), 'conflict session_id'],
  ['an escaped name conflicts as well', get('/?session_id=a&session%5fid=b'), 'conflict session_id'],
  ['an empty second one is a conflict', get('/?session_id=a&session_id'), 'conflict session_id'],
  ['two names are no conflict: the first in order counts', get('/?sessionId=b&session_id=a'), 'mcp-sse a'],
];

// prettier-ignore
const COOKIES: readonly Row[] = [
  ['no cookie', get('/', 'accept', 'sid=abc'), 'none'],
  ['another cookie', get('/', 'cookie', 'side=1; xsid=2; SID=3'), 'none'],
  ['a cookie', get('/', 'Cookie', 'sid=abc'), 'cookie:sid abc'],
  ['a cookie between others', get('/', 'cookie', 'a=1; sid=abc; b=2'), 'cookie:sid abc'],
  ['a cookie without a space before', get('/', 'cookie', 'a=1;sid=abc;b=2'), 'cookie:sid abc'],
  ['a cookie with spaces around', get('/', 'cookie', 'a=1 ;  sid = abc\t; b=2'), 'cookie:sid abc'],
  ['a cookie in a second header', get('/', 'cookie', 'a=1', 'Cookie', 'sid=abc'), 'cookie:sid abc'],
  ['a quoted cookie', get('/', 'cookie', 'sid="abc"'), 'cookie:sid abc'],
  ['half a quote is part of the id', get('/', 'cookie', 'sid="abc'), 'cookie:sid "abc'],
  ['one quote is an id', get('/', 'cookie', 'sid="'), 'cookie:sid "'],
  ['an equals sign in it', get('/', 'cookie', 'sid=abc=='), 'cookie:sid abc=='],
  ['escapes are not decoded', get('/', 'cookie', 'sid=s%3Aabc'), 'cookie:sid s%3Aabc'],
  ['a hint', get('/', 'cookie', 'sid=abc~m1; b'), 'cookie:sid abc ~m1'],
  ['a hint in quotes', get('/', 'cookie', 'sid="abc~m1"'), 'cookie:sid abc ~m1'],
  ['an empty one is ignored', get('/', 'cookie', 'sid=; a=1'), 'none'],
  ['empty quotes are ignored', get('/', 'cookie', 'sid=""'), 'none'],
  ['a name alone is ignored', get('/', 'cookie', 'sid; a=1'), 'none'],
  ['a name at the end is ignored', get('/', 'cookie', 'a=1; sid'), 'none'],
  ['its text in another value is ignored', get('/', 'cookie', 'a=sid=abc; b="; sid"'), 'none'],
  ['an invalid header is ignored', get('/', 'cookie', ';;= ;=sid; ;'), 'none'],
  ['two equal ones count as one', get('/', 'cookie', 'sid=a; sid=a', 'cookie', 'sid=a'), 'cookie:sid a'],
  ['of two different ones each may be the session', get('/', 'cookie', 'sid=a; sid=b~m1'), 'cookie:sid a, cookie:sid b ~m1'],
  ['of two different ones in two headers too', get('/', 'cookie', 'sid=a', 'cookie', 'sid=b'), 'cookie:sid a, cookie:sid b'],
  ['a malformed one beside it is ignored', get('/', 'cookie', 'sid=; sid=b'), 'cookie:sid b'],
  ['a duplicate among others counts once', get('/', 'cookie', 'sid=a; sid=b; sid=a'), 'cookie:sid a, cookie:sid b'],
  ['more than four are not read', get('/', 'cookie', 'sid=a; sid=b; sid=c; sid=d; sid=e'), 'cookie:sid a, cookie:sid b, cookie:sid c, cookie:sid d'],
  ['a query is ignored', get('/?sid=abc'), 'none'],
];

for (const [claim, head, expected] of [...HEADERS, ...QUERIES]) {
  test(`by default: ${claim}`, () => assert.equal(describeIds(byDefault(head)), expected));
}
for (const [claim, head, expected] of COOKIES) {
  test(`cookie:sid: ${claim}`, () => assert.equal(describeIds(byCookie(head)), expected));
}

// prettier-ignore
const REVISIONS: readonly Row[] = [
  ['an older revision has sessions', post('/', 'mcp-protocol-version', '2025-11-25', 'mcp-session-id', 'a'), 'mcp a'],
  ['no revision has sessions', post('/', 'mcp-session-id', 'a'), 'mcp a'],
  ['2026-07-28 has none', post('/', 'MCP-Protocol-Version', '2026-07-28', 'mcp-session-id', 'a'), 'none'],
  ['2027-01-01 has none', post('/', 'mcp-protocol-version', '2027-01-01', 'mcp-session-id', 'a'), 'none'],
  ['an invalid revision is ignored', post('/', 'mcp-protocol-version', 'zzzz', 'mcp-session-id', 'a'), 'mcp a'],
  ['a revision with a suffix is invalid', post('/', 'mcp-protocol-version', '2026-07-28-draft', 'mcp-session-id', 'a'), 'mcp a'],
  ['two different revisions are invalid', post('/', 'mcp-protocol-version', '2026-07-28', 'mcp-protocol-version', '2025-11-25', 'mcp-session-id', 'a'), 'mcp a'],
  ['a query of mcp-sse is ignored too', post('/?sessionId=a', 'mcp-protocol-version', '2026-07-28'), 'none'],
  ['other protocols keep their ids', post('/?session_id=a', 'mcp-protocol-version', '2026-07-28'), 'rpc a'],
  ['two different ids are no conflict where they have no meaning', post('/', 'mcp-protocol-version', '2026-07-28', 'mcp-session-id', 'a', 'mcp-session-id', 'b'), 'none'],
];

for (const [claim, head, expected] of REVISIONS) {
  test(`MCP revisions: ${claim}`, () => assert.equal(describeIds(byDefault(head)), expected));
}

test('a location that rpc shares with mcp-sse may hold client-minted ids', () => {
  for (const names of ['mcp-sse,rpc', 'rpc,mcp-sse']) {
    const readIds = createRequestIdReader(protocolsOf(names), { hints: true });
    const shared = readIds(get('/?session_id=abc~m1'));
    assert.ok(shared.kind === 'found');
    assert.equal(shared.protocol.mintedBy, 'either');
    assert.equal(shared.hint, 'm1');
    const own = readIds(get('/?sessionId=abc'));
    assert.equal(own.kind === 'found' && own.protocol.mintedBy, 'app');
  }
});

test('the whole text is kept, as a client may have minted an id that ends like a hint', () => {
  const whole = byDefault(get('/', 'x-session-id', 'user~bob'));
  assert.ok(whole.kind === 'found');
  assert.equal(whole.id, 'user');
  assert.equal(whole.hintedId, 'user~bob');
  const plain = byDefault(get('/', 'x-session-id', 'user'));
  assert.equal(plain.kind === 'found' && plain.hintedId, undefined);
});

test('without hints an id is unchanged', () => {
  const readIds = createRequestIdReader(DEFAULT_PROTOCOLS, { hints: false });
  assert.equal(describeIds(readIds(post('/', 'mcp-session-id', 'abc~m1'))), 'mcp abc~m1');
});

test('an id may be part of the path', () => {
  const readIds = createRequestIdReader(protocolsOf('path:^/ws/([^/]+)/'), { hints: true });
  assert.equal(describeIds(readIds(get('/ws/abc~m1/xhr?a=/ws/b/'))), 'path:^/ws/([^/]+)/ abc~m1');
  assert.equal(describeIds(readIds(get('/x?/ws/b/'))), 'none');
});

test('an id may be in a query or a header of any name', () => {
  const readIds = createRequestIdReader(protocolsOf('query:hash[],header:X-Id'), { hints: true });
  assert.equal(describeIds(readIds(get('/?hash%5B%5D=abc~m1'))), 'query:hash[] abc~m1');
  assert.equal(describeIds(readIds(get('/', 'x-id', 'abc~m1'))), 'header:x-id abc ~m1');
  assert.equal(describeIds(readIds(get('/?hash[]=a&hash[]=b'))), 'conflict hash[]');
});

test('an id of Socket.IO and SignalR has no hint, so it is unchanged', () => {
  const readIds = createRequestIdReader(protocolsOf('socket.io,signalr'), { hints: true });
  assert.equal(describeIds(readIds(get('/socket.io/?EIO=4&sid=a~m1'))), 'socket.io a~m1');
  assert.equal(describeIds(readIds(post('/hub?id=a~m1'))), 'signalr a~m1');
});

test('a request without an id returns a shared result: nothing is allocated for it', () => {
  assert.equal(byDefault(get('/', 'accept', 'a')), byDefault(post('/b?c=1')));
});

test('any bytes produce a result', () => {
  const text = fc.string({ unit: 'binary-ascii' });
  const name = fc.constantFrom('mcp-session-id', 'cookie', 'Cookie', 'x-session-id', 'host');
  const readIds = createRequestIdReader(protocolsOf('mcp,mcp-sse,rpc,cookie:s'), { hints: true });
  fc.assert(
    fc.property(text, fc.array(fc.tuple(name, text)), (target, headers) => {
      const { kind } = readIds(get(`/?session_id=${target}&s${target}`, ...headers.flat()));
      return ['none', 'conflict', 'found'].includes(kind);
    }),
  );
});

test('a long query of short pairs is read once, not once per pair', () => {
  const target = `/?${'a&'.repeat(500_000)}%`;
  const cpuMs = cpuMsOf(() => assert.equal(describeIds(byDefault(get(target))), 'none'));
  assert.ok(cpuMs < 2_000, `${cpuMs} ms`);
});

/** What `auto` takes for Socket.IO and SignalR, whose parameters have common names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRequestIdReader, type RequestIds } from '../../src/protocols/request-ids.ts';
import {
  describeIds,
  get,
  head,
  jsonWith,
  post,
  protocolsOf,
  responseWith,
  upgrade,
} from './heads.ts';
import { headDiscoveries, testRequests, testResponses } from './preset-tables.ts';

const TOKEN = 'zP3NrZ9eqOVhWvSpsNfHXg';
const OTHER = 'AP3NrZ9eqOVhWvSpsNfHXA';

// prettier-ignore
testRequests('auto', [
  ['an id of ASP.NET Core', upgrade(`/hub?id=${TOKEN}`), `signalr ${TOKEN}`],
  ['an id behind others', get(`/hub?a=b&id=${TOKEN}&access_token=x`), `signalr ${TOKEN}`],
  ['none: a number', get('/users?id=5'), 'none'],
  ['none: 21 characters', get(`/hub?id=${TOKEN.slice(1)}`), 'none'],
  ['none: 23 characters', get(`/hub?id=${TOKEN}x`), 'none'],
  ['none: a UUID', get('/hub?id=cd7e8b5a-3b7f-4b5e-9d3e-0123456789ab'), 'none'],
  ['none: a longer name', get(`/hub?userid=${TOKEN}`), 'none'],
  ['none: a list of two values', get(`/users?id=${TOKEN}&id=${OTHER}`), 'none'],
  ['none: one of two values', get(`/users?id=${TOKEN}&id=5`), 'none'],
  ['none: in the path', get(`/id=${TOKEN}`), 'none'],
  ['Engine.IO 4', get('/socket.io/?EIO=4&transport=polling&sid=abc'), 'socket.io abc'],
  ['Engine.IO 3, in another order', upgrade('/x/?sid=abc&transport=websocket&EIO=3'), 'socket.io abc'],
  ['none: sid alone', get('/report?sid=abc'), 'none'],
  ['none: a version that is no number', get('/report?EIO=x&sid=abc'), 'none'],
  ['none: a longer name', get('/report?XEIO=4&sid=abc'), 'none'],
  ['none: a handshake', get('/socket.io/?EIO=4&transport=polling'), 'none'],
]);
// prettier-ignore
testRequests('signalr', [
  ['an id of any length', get('/hub?id=5'), 'signalr 5'],
  ['two values are a conflict', get('/hub?id=5&id=6'), 'conflict id'],
]);
test('auto: a request may have an id behind one that is a guess', () => {
  const readIds = createRequestIdReader(protocolsOf('auto'), { hints: true });
  const describe = (target: string): readonly string[] => {
    const all: string[] = [];
    for (let ids: RequestIds | undefined = readIds(get(target)); ids;)
      [, ids] = [all.push(describeIds(ids)), ids.kind === 'found' ? ids.otherwise : undefined];
    return all;
  };
  const hex = 'a'.repeat(32);
  assert.deepEqual(describe(`/session/${hex}?id=${TOKEN}&sessionId=x~m1`), [
    ...[`signalr ${TOKEN}`, `webdriver ${hex}`, 'mcp-sse x ~m1', 'none'],
  ]);
  assert.deepEqual(describe(`/a?id=${TOKEN}`), [`signalr ${TOKEN}`, 'none']);
  assert.deepEqual(describe('/a?sessionId=x'), ['mcp-sse x', 'none']);
});

test('a location that a listed protocol shares is no guess', () => {
  const isGuess = (setting: string): boolean => {
    const ids = createRequestIdReader(protocolsOf(setting), { hints: true })(get('/?sessionId=x'));
    return ids.kind === 'found' && ids.protocol.isGuess === true;
  };
  assert.ok(isGuess('auto'));
  for (const setting of ['auto,query:sessionId', 'query:sessionId,auto', 'auto,mcp-sse', 'mcp-sse'])
    assert.ok(!isGuess(setting), setting);
});

// prettier-ignore
testRequests('auto', [
  ['none: two headers', post('/mcp', 'mcp-session-id', 'a', 'mcp-session-id', 'b'), 'none'],
  ['the same header twice', post('/mcp', 'mcp-session-id', 'a', 'mcp-session-id', 'a'), 'mcp a'],
  ['none: two parameters', get('/a?session_id=a&session_id=b'), 'none'],
  ['the id of another protocol beside them', get('/a?session_id=a&session_id=b', 'x-session-id', 'c'), 'rpc c'],
  ['none: two hints of one id', post('/mcp', 'mcp-session-id', 'a~m1', 'mcp-session-id', 'a~m2'), 'none'],
]);
for (const setting of ['mcp', 'auto,mcp', 'mcp,auto'])
  testRequests(setting, [
    [
      'two headers are a conflict',
      post('/mcp', 'mcp-session-id', 'a', 'mcp-session-id', 'b'),
      'conflict mcp-session-id',
    ],
  ]);
testRequests('auto,mcp', [
  ['in the order of auto', post('/', 'x-session-id', 'a', 'mcp-session-id', 'b'), 'mcp b'],
]);
testRequests('socket.io', [['sid alone', get('/x?sid=abc'), 'socket.io abc']]);

const OPEN = '0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000}';
const POLL = get('/socket.io/?EIO=3&transport=polling&j=0');
const SCRIPT = responseWith(200, 'content-type', 'text/javascript; charset=UTF-8');
const IN_DOUBLE = JSON.stringify(`${OPEN.length}:${OPEN}2:40`);
const IN_SINGLE = `'${OPEN.length}:${OPEN}2:40'`;
const REVEALED = ['socket.io lv_VI97HAXpY6yYWAAAC'];
// prettier-ignore
for (const setting of ['socket.io', 'auto']) testResponses(setting, [
  ['JSONP in double quotes', POLL, SCRIPT, `___eio[0](${IN_DOUBLE});`, REVEALED],
  ['JSONP in single quotes', POLL, SCRIPT, `___eio[12](${IN_SINGLE});`, REVEALED],
  ['JSONP in single quotes, with escaped ones', POLL, SCRIPT, `___eio[0]('${IN_DOUBLE.slice(1, -1).replace('upgrades', "up\\'s")}')`, REVEALED],
  ['JSONP with a line break at its end', POLL, SCRIPT, `___eio[0](${IN_DOUBLE});\n`, REVEALED],
  ['JSONP of the other type', POLL, responseWith(200, 'content-type', 'application/javascript'), `___eio[0](${IN_DOUBLE});`, REVEALED],
  ['but not another function', POLL, SCRIPT, `alert(${IN_DOUBLE});`, []],
  ['but not a call within a call', POLL, SCRIPT, `___eio[0](f(${IN_DOUBLE}));`, []],
  ['but not an open quote', POLL, SCRIPT, `___eio[0](${IN_DOUBLE.slice(0, -1)});`, []],
  ['but not more than 16 KB of JSONP', POLL, SCRIPT, `___eio[0](${JSON.stringify(OPEN + 'x'.repeat(20_000))});`, []],
  ['the packet alone', POLL, responseWith(200, 'content-type', 'text/plain'), OPEN, REVEALED],
]);

const NEGOTIATED = JSON.stringify({
  negotiateVersion: 1,
  connectionId: 'x',
  connectionToken: TOKEN,
});
// prettier-ignore
for (const setting of ['signalr', 'auto']) testResponses(setting, [
  ['a negotiation', post('/hub/negotiate?negotiateVersion=1'), jsonWith(200), NEGOTIATED, [`signalr ${TOKEN}`]],
  ['a negotiation of Blazor', post('/_blazor/negotiate'), jsonWith(200), NEGOTIATED, [`signalr ${TOKEN}`]],
  ['but not an error', post('/hub/negotiate'), jsonWith(401), NEGOTIATED, []],
  ['but not another call', post('/hub/negotiation'), jsonWith(200), NEGOTIATED, []],
]);

test('a DELETE ends a session of SignalR, and none of Socket.IO', () => {
  const isEnded = (target: string): boolean =>
    headDiscoveries('auto', head('DELETE', target), responseWith(202)).hasEnded;
  assert.ok(isEnded(`/hub?id=${TOKEN}`));
  assert.ok(!isEnded('/socket.io/?EIO=4&sid=abc'));
});

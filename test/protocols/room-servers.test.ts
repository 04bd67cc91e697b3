/** Colyseus, y-websocket, Hocuspocus. */
import { get, head, jsonWith, post, responseWith, upgrade } from './heads.ts';
import { testRequests, testResponses } from './preset-tables.ts';

const JSON_OK = jsonWith(200);

// prettier-ignore
for (const setting of ['colyseus', 'auto']) testRequests(setting, [
  ['the seat of a WebSocket', upgrade('/process/room9?sessionId=abc'), 'colyseus abc'],
  ['an escaped one', upgrade('/process/room9?a=b&sessionId=a%62c'), 'colyseus abc'],
  ['a room to join', post('/matchmake/joinById/Room-9'), 'colyseus Room-9'],
  ['a room to return to', post('/matchmake/reconnect/Room-9'), 'colyseus Room-9'],
  ['none: a new room', post('/matchmake/joinOrCreate/chess'), 'none'],
  ['none: a WebSocket without a seat', upgrade('/process/room9'), 'none'],
  ['none: more path behind it', get('/matchmake/joinById/a/b'), 'none'],
  ['none: no room', post('/matchmake/joinById/'), 'none'],
]);
// prettier-ignore
testRequests('colyseus', [
  ['none: a query of a plain request', get('/process/room9?sessionId=abc'), 'none'],
  ['two seats are a conflict', upgrade('/p?sessionId=a&sessionId=b'), 'conflict websocket'],
]);
// prettier-ignore
testRequests('auto', [
  ['a query of a plain request is that of MCP', get('/messages?sessionId=abc'), 'mcp-sse abc'],
]);

const SEAT = { sessionId: 'abc', roomId: 'Room-9' };
// prettier-ignore
for (const setting of ['colyseus', 'auto']) testResponses(setting, [
  ['a seat and its room', post('/matchmake/create/chess'), JSON_OK, JSON.stringify({ ...SEAT, name: 'chess' }), ['colyseus abc', 'colyseus Room-9']],
  ['an older form', post('/matchmake/joinOrCreate/chess'), JSON_OK, JSON.stringify({ room: { roomId: 'Room-9' }, sessionId: 'abc' }), ['colyseus abc', 'colyseus Room-9']],
  ['a seat in a room that the request names', post('/matchmake/joinById/Room-9'), JSON_OK, JSON.stringify(SEAT), ['colyseus abc', 'colyseus Room-9']],
  ['as text', post('/matchmake/join/chess'), responseWith(200, 'content-type', 'text/plain'), JSON.stringify(SEAT), ['colyseus abc', 'colyseus Room-9']],
  ['what comes before 16 KB', post('/matchmake/join/chess'), JSON_OK, JSON.stringify({ sessionId: 'abc', x: 'x'.repeat(20_000), roomId: 'Room-9' }), ['colyseus abc']],
  ['nothing from an error', post('/matchmake/join/chess'), jsonWith(400), JSON.stringify(SEAT), []],
  ['nothing from an error in the body', post('/matchmake/join/chess'), JSON_OK, JSON.stringify({ code: 4212, error: 'no' }), []],
  ['nothing from malformed JSON', post('/matchmake/join/chess'), JSON_OK, '{"sessionId":"abc', []],
  ['nothing from a preflight', head('OPTIONS', '/matchmake/join/chess'), JSON_OK, JSON.stringify(SEAT), []],
  ['nothing elsewhere', post('/matchmaking/join/chess'), JSON_OK, JSON.stringify(SEAT), []],
]);

// prettier-ignore
for (const name of ['yjs', 'hocuspocus']) testRequests(name, [
  ['the path of a WebSocket', upgrade('/docs/my-room?token=x'), `${name} docs/my-room`],
  ['an escaped path', upgrade('/my%20room'), `${name} my room`],
  ['the query takes precedence', upgrade('/ws?room=a%20b'), `${name} a b`],
  ['none: the root', upgrade('/'), 'none'],
  ['none: no WebSocket', get('/docs/my-room?room=a'), 'none'],
  ['none: another upgrade', { ...get('/docs/my-room'), upgrade: 'h2c' }, 'none'],
]);
// prettier-ignore
testRequests('auto,yjs', [
  ['a room', upgrade('/my-room'), 'yjs my-room'],
  ['a WebSocket of Socket.IO stays one', upgrade('/socket.io/?EIO=4&transport=websocket&sid=abc'), 'socket.io abc'],
]);
testRequests('auto', [['none: a WebSocket of y-websocket', upgrade('/my-room'), 'none']]);

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { PROTOCOL_NAMES } from '../../src/observability/metrics.ts';
import { AUTO, PRESETS } from '../../src/protocols/presets.ts';
import { parseProtocols, PRESET_NAMES } from '../../src/protocols/setting.ts';
import { protocolsOf } from './heads.ts';

const SOURCES =
  'expected json:/POINTER, location, response-header:NAME, set-cookie:NAME or endpoint';
const WORDS =
  'expected from, soft, by:app, by:client, by:either, ends:delete, ends:expiry, ' +
  'unknown:problem, unknown:mcp, unknown:socket.io, unknown:webdriver';
const SOURCE_WORDS = WORDS.replace('from, ', '');
const EXPECTED = `must be a comma-separated list of ${PRESET_NAMES.join(', ')}`;

test('the page on presets has a row for each preset, with what it says of itself', () => {
  const page = readFileSync(new URL('../../src/docs/presets.md', import.meta.url), 'utf8');
  const [, table = ''] = /\n## The presets\n([^]*?)\n## /.exec(page) ?? [];
  const rows = table
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const expected = Object.entries(PRESETS).map(([name, { products, ids, revealedBy, auto }]) => [
    ...['', `\`${name}\``, products, ids, revealedBy],
    ...[auto.length > 0 ? 'yes' : 'no', ''],
  ]);
  assert.deepEqual(rows, expected);
});

test('the metric by protocol has a label for each protocol, and one for each kind of setting', () => {
  const rows = Object.values(PRESETS).flatMap(({ protocols }) => protocols.map(({ name }) => name));
  assert.deepEqual(PROTOCOL_NAMES, [...rows, 'cookie', 'header', 'query', 'path', 'body']);
});

test('auto has every protocol under the name that its preset gives it', () => {
  for (const [name, { protocols, auto }] of Object.entries(PRESETS)) {
    const names = protocols.map((protocol) => protocol.name);
    for (const row of auto) assert.ok(names.includes(row.name), `${name}: ${row.name}`);
  }
  assert.deepEqual(protocolsOf('auto'), AUTO);
});

test('a protocol that is listed beside auto takes the place of its shape', () => {
  const listed = protocolsOf('auto,socket.io,mcp');
  const socketIo = listed.filter(({ name }) => name === 'socket.io');
  assert.deepEqual(socketIo, PRESETS['socket.io']?.protocols);
  assert.equal(listed.filter(({ name }) => name === 'mcp').length, 1);
});

test('protocols keep the order in which they are named', () => {
  const names = protocolsOf(' rpc, cookie:sid ,mcp-sse,mcp,cookie:__Host-id').map(
    ({ name }) => name,
  );
  assert.deepEqual(names, ['rpc', 'cookie:sid', 'mcp-sse', 'mcp', 'mcp-tasks', 'cookie:__Host-id']);
});

// prettier-ignore
const LISTS: readonly (readonly [claim: string, text: string, names: readonly string[]])[] = [
  ['in a group', 'mcp,path:^/(a,b),rpc', ['mcp', 'mcp-tasks', 'path:^/(a,b)', 'rpc']],
  ['in a class', 'path:^/([^,/]+),rpc', ['path:^/([^,/]+)', 'rpc']],
  ['in a class that contains brackets', 'path:^/([^\\](,]+),rpc', ['path:^/([^\\](,]+)', 'rpc']],
  ['in a count', 'path:^/(a{1,3}),rpc', ['path:^/(a{1,3})', 'rpc']],
  ['after a backslash', 'path:^/(a)\\,b,rpc', ['path:^/(a)\\,b', 'rpc']],
  ['after an escaped bracket', 'path:^/(a)\\(,rpc', ['path:^/(a)\\(', 'rpc']],
];
for (const [claim, text, names] of LISTS) {
  test(`a comma separates, but not ${claim}`, () => {
    assert.deepEqual(
      protocolsOf(text).map(({ name }) => name),
      names,
    );
  });
}

test('the name of a header is case-insensitive', () => {
  assert.deepEqual(protocolsOf('header:X-Id')[0]?.idLocations, [
    { in: 'header', name: 'x-id', mayCarryHint: true },
  ]);
});

test('ids of rpc may be minted by app and client', () => {
  assert.deepEqual(
    protocolsOf('mcp,mcp-sse,rpc,cookie:sid,socket.io,signalr').map(({ mintedBy }) => mintedBy),
    ['app', 'app', 'app', 'either', 'app', 'app', 'app'],
  );
  assert.deepEqual(
    protocolsOf('query:a,header:a,path:^/(a)').map(({ mintedBy }) => mintedBy),
    ['client', 'either', 'client'],
  );
});

// prettier-ignore
const REVEALED: readonly (readonly [text: string, names: readonly string[], sources: readonly string[]])[] = [
  ['path:^/api/kernels/([^/]+) from json:/id,location', ['path:^/api/kernels/([^/]+)'], ['body', 'sse-message', 'location']],
  ['path:^/s/([^/]+)  from  location , json:/value/id ,rpc', ['path:^/s/([^/]+)', 'rpc'], ['location', 'body', 'sse-message']],
  ['query:id from response-header:X-Id,query:b', ['query:id', 'query:b'], ['header']],
  ['path:^/a/([^,]+) from location,path:^/b/(.+) from location', ['path:^/a/([^,]+)', 'path:^/b/(.+)'], ['location']],
];
for (const [text, names, sources] of REVEALED) {
  test(`"${text}" says where the app reveals its ids`, () => {
    const [first, ...others] = protocolsOf(text);
    assert.deepEqual(
      [first, ...others].map((protocol) => protocol?.name),
      names,
    );
    assert.equal(first?.mintedBy, 'app');
    assert.deepEqual(
      first.discoveries.map(({ from }) => from),
      sources,
    );
  });
}

// prettier-ignore
const MISTAKES: readonly (readonly [text: string, mistakes: readonly string[]])[] = [
  ['', [`${EXPECTED}, got ""`]],
  ['mcp,,rpc', [`${EXPECTED}, got ""`]],
  ['MCP', [`${EXPECTED}, got "MCP"; did you mean mcp?`]],
  ['socketio', [`${EXPECTED}, got "socketio"; did you mean socket.io?`]],
  ['y-websocket', [`${EXPECTED}, got "y-websocket"; did you mean yjs?`]],
  ['header:', [`${EXPECTED}, got "header:"`]],
  ['header:a b', [`has an unknown "b" at column 10: ${WORDS}`]],
  ['query:', [`${EXPECTED}, got "query:"`]],
  ['query:a=b', [`${EXPECTED}, got "query:a=b"`]],
  ['header:X-Id,header:x-id', ['must name each protocol once, got "header:x-id" again']],
  ['path:', ['holds a pattern that has no group (...) for the id: "path:"']],
  ['path:^/([^,]+,mcp', ['holds a pattern that is no regular expression: "path:^/([^,]+,mcp"']],
  ['cookie:', [`${EXPECTED}, got "cookie:"`]],
  ['cookie:a b', [`has an unknown "b" at column 10: ${WORDS}`]],
  ['cookie:a=b', [`${EXPECTED}, got "cookie:a=b"`]],
  ['toString', [`${EXPECTED}, got "toString"`]],
  ['rpc, path:^/(a) from jsn:/id', [`has an unknown source "jsn:/id" at column 22: ${SOURCES}`]],
  ['path:^/(a) from location, json:id', [`has an unknown source "json:id" at column 27: ${SOURCES}`]],
  ['path:^/(a) from ', [`has an unknown source "" at column 16: ${SOURCES}`]],
  ['cookie:a from location', ['has "location" at column 15 for a cookie: only ids of path: and query: are in a URL']],
  ['header:a from endpoint', ['has "endpoint" at column 15 for a header: only ids of query: are in a query']],
  ['mcp,socket.io from location', ['has a "from" at column 15 behind what says itself where its ids come from']],
  ['auto from json:/id', ['has a "from" at column 6 behind what says itself where its ids come from']],
  ['rpc, query:a softly', [`has an unknown "softly" at column 14: ${WORDS}`]],
  ['path:^/(a) from location hard', [`has an unknown "hard" at column 26: ${SOURCE_WORDS}`]],
  ['path:^/(a) from json:/id ends:delet', [`has an unknown "ends:delet" at column 26: ${SOURCE_WORDS}`]],
  ['rpc,path:^/(a) from json:/id ,location softly', [`has an unknown "softly" at column 40: ${SOURCE_WORDS}`]],
  ['path:^/(a) soft from json:/id', ['has "soft" at column 12: it must be behind the sources, once']],
  ['query:a soft soft', ['has "soft" at column 9: it must be behind the sources, once']],
  ['path:^/(a) from location ends:delete ends:expiry', ['has "ends:delete" at column 26: it must be behind the sources, once']],
  ['body:id', ['holds no JSON pointer such as body:/user/id: "body:id"']],
  ['path:^/a from location', ['holds a pattern that has no group (...) for the id: "path:^/a"']],
  ['mcp,rpc,mcp', ['must name each protocol once, got "mcp" again']],
  ['one,mcp,two', [`${EXPECTED}, got "one"`, `${EXPECTED}, got "two"`]],
];

for (const [text, mistakes] of MISTAKES) {
  test(`"${text}" is an invalid list of protocols`, () => {
    assert.deepEqual(parseProtocols(text), { mistakes });
  });
}

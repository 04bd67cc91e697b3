import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseProtocols } from '../../src/affinity/protocols.ts';
import { protocolsOf } from './heads.ts';

const EXPECTED = 'must be a comma-separated list of mcp, mcp-sse, rpc, cookie:NAME';

test('protocols keep the order in which they are named', () => {
  const names = protocolsOf(' rpc, cookie:sid ,mcp-sse,mcp,cookie:__Host-id').map(
    ({ name }) => name,
  );
  assert.deepEqual(names, ['rpc', 'cookie:sid', 'mcp-sse', 'mcp', 'cookie:__Host-id']);
});

test('ids of rpc may be minted by app and client', () => {
  assert.deepEqual(
    protocolsOf('mcp,mcp-sse,rpc,cookie:sid').map(({ mintedBy }) => mintedBy),
    ['app', 'app', 'either', 'app'],
  );
});

// prettier-ignore
const MISTAKES: readonly (readonly [text: string, mistakes: readonly string[]])[] = [
  ['', [`${EXPECTED}, got ""`]],
  ['mcp,,rpc', [`${EXPECTED}, got ""`]],
  ['MCP', [`${EXPECTED}, got "MCP"`]],
  ['socket.io', [`${EXPECTED}, got "socket.io"`]],
  ['cookie:', [`${EXPECTED}, got "cookie:"`]],
  ['cookie:a b', [`${EXPECTED}, got "cookie:a b"`]],
  ['cookie:a=b', [`${EXPECTED}, got "cookie:a=b"`]],
  ['toString', [`${EXPECTED}, got "toString"`]],
  ['mcp,rpc,mcp', ['must name each protocol once, got "mcp" again']],
  ['one,mcp,two', [`${EXPECTED}, got "one"`, `${EXPECTED}, got "two"`]],
];

for (const [text, mistakes] of MISTAKES) {
  test(`"${text}" is no list of protocols`, () => {
    assert.deepEqual(parseProtocols(text), { mistakes });
  });
}

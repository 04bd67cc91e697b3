import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseProbeOptions, type ProbeOptionValues } from '../../src/cli/probe-options.ts';

function parsed(values: Partial<ProbeOptionValues>): {
  readonly mistakes: readonly string[];
  readonly where: readonly string[];
  readonly headers: object;
} {
  const mistakes: string[] = [];
  const { probes, headers } = parseProbeOptions({ header: [], ...values }, mistakes);
  return { mistakes, headers, where: [...new Set(probes.map(({ where }) => where))] };
}

test('without options, the usual paths of every protocol are tried', () => {
  const { mistakes, where } = parsed({});
  assert.deepEqual(mistakes, []);
  assert.deepEqual(where, [
    'POST /mcp',
    'GET /sse (event stream)',
    'GET /socket.io/ (polling)',
    'POST /_blazor/negotiate',
    'POST /hub/negotiate',
    'POST /chathub/negotiate',
    'POST /api/kernels',
    'POST /',
    'GET /',
    'GET / (WebSocket)',
  ]);
});

test('a path takes the place of the usual ones', () => {
  const { where } = parsed({ path: '/chat' });
  assert.deepEqual(where.slice(0, 4), [
    'POST /chat',
    'GET /chat (event stream)',
    'GET /chat (polling)',
    'POST /chat/negotiate',
  ]);
});

test('header fields go with each request of a known protocol', () => {
  const { headers } = parsed({ header: ['Authorization: Bearer x', 'X-Empty:'] });
  assert.deepEqual(headers, { authorization: 'Bearer x', 'x-empty': '' });
});

test('a request with a body is a POST unless it says otherwise', () => {
  assert.deepEqual(parsed({ request: '/rpc', data: '{}' }).where, ['POST /rpc']);
  assert.deepEqual(parsed({ request: '/rpc' }).where, ['GET /rpc']);
  assert.deepEqual(parsed({ request: 'PUT /rpc', data: 'a=1' }).where, ['PUT /rpc']);
  assert.deepEqual(parsed({ request: '{location}', open: 'POST /rooms' }).where, ['POST /rooms']);
});

const MISTAKES: readonly (readonly [Partial<ProbeOptionValues>, string])[] = [
  [{ path: 'mcp' }, '--path must be a path such as /mcp, got "mcp"'],
  [{ data: 'x' }, '--data needs --request'],
  [{ open: '/x' }, '--open needs --request'],
  [{ request: '/x', 'open-data': 'x' }, '--open-data needs --open'],
  [{ request: '/x', path: '/y' }, '--path and --request exclude each other'],
  [{ request: 'POST' }, `--request must be a method and a path, as in 'POST /rpc', got "POST"`],
  [
    { request: 'GET /a#b' },
    `--request must be a method and a path, as in 'POST /rpc', got "GET /a#b"`,
  ],
  [{ header: ['secret'] }, `--header must be a field such as 'Authorization: Bearer ...'`],
  [{ header: ['a: b\r\nc: d'] }, `--header must be a field such as 'Authorization: Bearer ...'`],
];

for (const [values, mistake] of MISTAKES) {
  test(`${JSON.stringify(values)} is a mistake`, () => {
    assert.deepEqual(parsed(values).mistakes, [mistake]);
  });
}

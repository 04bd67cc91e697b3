/** Hop-by-hop fields (RFC 9110 §7.6.1): what the sidecar removes, and what Connection may not remove. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertReachesApp, assertRejected, get, startRawSidecar, valuesOf } from './support.ts';

/** Field names in lower case. */
const namesOf = (fields: readonly (readonly [string, string])[]): string[] =>
  fields.map(([name]) => name.toLowerCase());

describe('a field of a request that Connection names is removed:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...lines: string[]])[] = [
    ['one', 'Connection: X-Foo', 'X-Foo: 1'],
    ['one in another case', 'Connection: x-FOO', 'X-Foo: 1'],
    ['one beside keep-alive', 'Connection: keep-alive, X-Foo', 'X-Foo: 1'],
    ['one in a list without spaces', 'Connection: keep-alive,X-Foo,x-bar', 'X-Foo: 1', 'X-Bar: 2'],
    ['one in a list with empty members', 'Connection: , X-Foo ,,', 'X-Foo: 1'],
    ['one with white space around it', 'Connection:\t X-Foo \t', 'X-Foo: 1'],
    ['one in a second field', 'Connection: keep-alive', 'Connection: X-Foo', 'X-Foo: 1'],
    ['one that comes first', 'X-Foo: 1', 'Connection: X-Foo'],
    ['all of its fields', 'X-Foo: 1', 'Connection: X-Foo', 'x-foo: 2'],
  ];
  for (const [claim, ...lines] of rows) {
    test(claim, async (t) => {
      const { fields } = await assertReachesApp(t, get('/', ...lines, 'X-Kept: 1'));
      const names = namesOf(fields);
      assert.ok(names.includes('x-kept'));
      assert.ok(!names.includes('x-foo') && !names.includes('x-bar'), names.join());
    });
  }

  test('one beside close', async (t) => {
    const sidecar = await startRawSidecar(t);
    await sidecar.responsesTo(get('/', 'Connection: close, x-foo', 'X-Foo: 1', 'X-Kept: 1'));
    const names = namesOf(sidecar.app.requests[0]?.fields ?? []);
    assert.deepEqual([names.includes('x-kept'), names.includes('x-foo')], [true, false]);
  });
});

describe('the sidecar does not pass on the hop-by-hop field of a request:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, name: string, ...lines: string[]])[] = [
    ['TE', 'te', 'TE: trailers'],
    ['TE that Connection names', 'te', 'Connection: TE', 'TE: trailers, deflate;q=0.5'],
    ['Keep-Alive', 'keep-alive', 'Connection: keep-alive', 'Keep-Alive: timeout=5, max=100'],
    ['Proxy-Connection', 'proxy-connection', 'Proxy-Connection: keep-alive'],
    ['Upgrade that Connection does not name', 'upgrade', 'Upgrade: websocket'],
    ['HTTP2-Settings', 'http2-settings', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAM'],
  ];
  for (const [claim, name, ...lines] of rows) {
    test(claim, async (t) => {
      const { fields } = await assertReachesApp(t, get('/', ...lines));
      // The sidecar may set the field for its own connection to the app.
      const own = fields.filter((field) => lines.includes(field.join(': ')));
      assert.ok(!namesOf(own).includes(name), namesOf(fields).join());
    });
  }

  test('the names in Connection', async (t) => {
    const request = await assertReachesApp(t, get('/', 'Connection: keep-alive, X-Foo'));
    assert.doesNotMatch(valuesOf(request, 'connection').join(), /x-foo/i);
  });
});

describe('rejects a request whose Connection names', () => {
  // prettier-ignore
  const rows: readonly (readonly [name: string, ...lines: string[]])[] = [
    ['Authorization', 'Authorization: Bearer x'],
    ['Cookie', 'Cookie: a=b'],
    ['Host'],
    ['Content-Length', 'Content-Length: 0'],
    ['Transfer-Encoding'],
    ['Mcp-Session-Id', 'Mcp-Session-Id: x'],
    ['X-Session-Id', 'X-Session-Id: x'],
  ];
  for (const [name, ...lines] of rows) {
    test(name, (t) => assertRejected(t, get('/', `Connection: ${name}`, ...lines)));
  }

  for (const [claim, ...lines] of [
    ['one of these in another case', 'Connection: cooKIE', 'Cookie: a=b'],
    ['one of these after others', 'Connection: keep-alive, x-foo ,\tCookie', 'Cookie: a=b'],
    [
      'one of these in a second field',
      'Connection: keep-alive',
      'Connection: Cookie',
      'Cookie: a=b',
    ],
  ] as const) {
    test(claim, (t) => assertRejected(t, get('/', ...lines)));
  }

  test('a configured session id header', (t) =>
    assertRejected(t, get('/', 'Connection: X-Room', 'X-Room: lobby'), 400, {
      env: { SESSION_PROTOCOLS: 'header:x-room' },
    }));

  test('a length that frames a body', (t) =>
    assertRejected(
      t,
      'POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello',
    ));

  test('a coding that frames a body', (t) =>
    assertRejected(
      t,
      'POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ));
});

describe('keeps a field of the edge that Connection names:', () => {
  // prettier-ignore
  const rows: readonly string[] = [
    'X-Forwarded-For: 192.0.2.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Port: 443',
    'X-Forwarded-Host: example.com',
    'X-Forwarded-Ssl: on',
    'Forwarded: for=192.0.2.1',
    'Fly-Client-IP: 192.0.2.1',
    'Fly-Region: ams',
    'Fly-Request-Id: 01HX',
    'Fly-Forwarded-Port: 443',
  ];
  for (const line of rows) {
    const [name = '', value = ''] = line.split(': ');
    test(name, async (t) => {
      const request = await assertReachesApp(t, get('/', `Connection: ${name}`, line));
      assert.deepEqual(valuesOf(request, name.toLowerCase()), [value]);
    });
  }

  test('Via', async (t) => {
    const request = await assertReachesApp(t, get('/', 'Connection: via', 'Via: 1.1 b'));
    assert.match(valuesOf(request, 'via').join(', '), /^1\.1 b(?:, |$)/);
  });
});

describe('a field of a response is removed:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, name: string, lines: string])[] = [
    ['one that Connection names', 'x-hop', 'Connection: X-Hop\r\nX-Hop: 1\r\n'],
    ['one that a second Connection names', 'x-hop', 'Connection: keep-alive\r\nX-Hop: 1\r\nconnection: x-hop\r\n'],
    ['Keep-Alive', 'keep-alive', 'Keep-Alive: timeout=77\r\n'],
    ['Proxy-Connection', 'proxy-connection', 'Proxy-Connection: keep-alive\r\n'],
    ['Upgrade that offers another protocol', 'upgrade', 'Upgrade: h2c\r\n'],
  ];
  for (const [claim, name, lines] of rows) {
    test(claim, async (t) => {
      const response = `HTTP/1.1 200 OK\r\n${lines}X-Kept: 1\r\nContent-Length: 2\r\n\r\nok`;
      const sidecar = await startRawSidecar(t, { respond: (socket) => socket.write(response) });
      const { messages } = await sidecar.responsesTo(get('/', 'Connection: close'));
      const names = namesOf(messages[0]?.fields ?? []);
      assert.deepEqual([names.includes('x-kept'), names.includes(name)], [true, false]);
    });
  }

  test('and its Connection does not affect the client connection', async (t) => {
    const response = 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok';
    const sidecar = await startRawSidecar(t, { respond: (socket) => socket.end(response) });
    const { messages } = await sidecar.responsesTo(get('/1') + get('/2', 'Connection: close'));
    assert.deepEqual(
      messages.map(({ body }) => body),
      ['ok', 'ok'],
    );
  });
});

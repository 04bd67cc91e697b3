/** The field `Host` (RFC 9110 §7.2, RFC 9112 §3.2): what reaches the app and what is rejected. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertReachesApp, assertRejected, startRawSidecar, valuesOf } from './support.ts';

describe('a Host reaches the app unchanged:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, host: string])[] = [
    ['a name', 'my-app.fly.dev'],
    ['a name in upper case', 'MY-APP.FLY.DEV'],
    ['a name with a trailing dot', 'example.com.'],
    ['a name with an underscore, as containers have', 'my_app'],
    ['a name with an escape (RFC 3986 §3.2.2)', 'a%20b'],
    ['a port', 'example.com:8443'],
    ['an empty port (RFC 3986 §3.2.3)', 'example.com:'],
    ['an IPv4 address', '127.0.0.1:80'],
    ['an IPv6 address', '[::1]'],
    ['an IPv6 address with a port', '[::1]:8080'],
    ['an IPv4-mapped IPv6 address', '[::ffff:127.0.0.1]'],
  ];
  for (const [claim, host] of rows) {
    test(claim, async (t) => {
      const request = await assertReachesApp(t, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      assert.deepEqual(valuesOf(request, 'host'), [host]);
    });
  }

  test('in any case of its name, with white space around its value', async (t) => {
    const request = await assertReachesApp(t, 'GET / HTTP/1.1\r\nhOsT:\t example.com \t\r\n\r\n');
    assert.deepEqual(valuesOf(request, 'host'), ['example.com']);
  });

  test('after other fields', async (t) => {
    const request = await assertReachesApp(
      t,
      'GET / HTTP/1.1\r\nX-A: b\r\nHost: example.com\r\n\r\n',
    );
    assert.deepEqual(valuesOf(request, 'host'), ['example.com']);
  });
});

describe('rejects a request whose Host is:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, ...lines: string[]])[] = [
    ['missing in HTTP/1.1', 'X-A: b'],
    ['missing, as are all fields, in HTTP/1.1'],
    ['empty', 'Host:'],
    ['only white space', 'Host: \t '],
    ['two', 'Host: a', 'Host: b'],
    ['the same twice', 'Host: a', 'Host: a'],
    ['two in another case', 'Host: a', 'X-A: b', 'host: b'],
    ['a second one that is empty', 'Host: a', 'Host:'],
    ['a list', 'Host: a, b'],
    ['a list without a space', 'Host: a,b'],
    ['a path', 'Host: a/b'],
    ['a trailing slash', 'Host: a/'],
    ['a query', 'Host: a?b'],
    ['a fragment', 'Host: a#b'],
    ['a user', 'Host: u@a'],
    ['a user and a password', 'Host: u:p@a'],
    ['a scheme', 'Host: http://a'],
    ['a space', 'Host: a b'],
    ['a tab', 'Host: a\tb'],
    ['a backslash', 'Host: a\\b'],
    ['quotes', 'Host: "a"'],
    ['angle brackets', 'Host: <a>'],
    ['a non-ASCII byte', 'Host: caf\xe9'],
    ['a NUL', 'Host: a\0b'],
    ['a port that is no number', 'Host: a:b'],
    ['a port with a sign', 'Host: a:+80'],
    ['two ports', 'Host: a:80:80'],
    ['a port alone', 'Host: :80'],
    ['an IPv6 address without brackets', 'Host: ::1'],
    ['an IPv6 address without the closing bracket', 'Host: [::1'],
    ['a name after an IPv6 address', 'Host: [::1]a'],
    ['brackets around a name', 'Host: [a.example]'],
    ['empty brackets', 'Host: []'],
  ];
  for (const [claim, ...lines] of rows) {
    const sent = ['GET / HTTP/1.1', ...lines, '', ''].join('\r\n');
    test(claim, (t) => assertRejected(t, sent));
  }

  for (const [claim, hosts] of [
    ['two in HTTP/1.0', 'Host: a\r\nHost: b\r\n'],
    ['a user in HTTP/1.0', 'Host: u@a\r\n'],
  ] as const) {
    test(claim, (t) => assertRejected(t, `GET / HTTP/1.0\r\n${hosts}\r\n`));
  }
});

test('an HTTP/1.0 request without Host reaches the app with one', async (t) => {
  const sidecar = await startRawSidecar(t);
  await sidecar.responsesTo('GET / HTTP/1.0\r\n\r\n');
  const [request] = sidecar.app.requests;
  assert.ok(request);
  assert.deepEqual(valuesOf(request, 'host'), [`127.0.0.1:${sidecar.app.port}`]);
});

/** The request line (RFC 9112 §2.2, §2.3, §3): what reaches the app and what is rejected. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertReachesApp, assertRejected, startRawSidecar, statusOf } from './support.ts';

const HOST = 'Host: a\r\n\r\n';

describe('a method reaches the app unchanged (RFC 9110 §9.1):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, method: string])[] = [
    ['a standard one', 'PATCH'],
    ['one of WebDAV', 'PROPFIND'],
    ['one with a hyphen', 'M-SEARCH'],
    ['a new one', 'QUERY'],
    ['an unknown one', 'FOO'],
    ['one in lower case', 'get'],
    ['one in mixed case', 'Get'],
    ['one that begins like HTTP', 'HTTP'],
    ['one of one letter', 'X'],
    ['one with every token character', "A!#$%&'*+-.^_`|~09z"],
  ];
  for (const [claim, method] of rows) {
    test(claim, async (t) => {
      const request = await assertReachesApp(t, `${method} /x HTTP/1.1\r\n${HOST}`);
      assert.equal(request.startLine, `${method} /x HTTP/1.1`);
    });
  }
});

test('a request with an unknown method reaches the app with its body', async (t) => {
  const { startLine, body } = await assertReachesApp(
    t,
    'FOO /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello',
  );
  assert.deepEqual([startLine, body], ['FOO /x HTTP/1.1', 'hello']);
});

describe('a method is rejected:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, method: string])[] = [
    ['with a character that is not allowed in a token', 'G@T'],
    ['in quotes', '"GET"'],
    ['in parentheses', '(GET)'],
    ['with a comma', 'GET,'],
    ['with a colon', 'GET:'],
    ['with a NUL', 'GET\0'],
    ['with a non-ASCII byte', 'GET\xe9'],
    ['after a byte order mark', '\xef\xbb\xbfGET'],
    ['that is empty', ''],
  ];
  for (const [claim, method] of rows) {
    test(claim, (t) => assertRejected(t, `${method} /x HTTP/1.1\r\n${HOST}`));
  }
});

describe('CONNECT returns 501, because the sidecar is not a forward proxy (RFC 9110 §9.3.6):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['to an authority', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n'],
    ['to another authority than Host', `CONNECT b:443 HTTP/1.1\r\n${HOST}`],
    ['to an address', 'CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n'],
    ['with bytes after the head', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03\x01\x02\0\x01\0'],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertRejected(t, sent, 501));
});

describe('a target reaches the app in origin-form (RFC 9112 §3.2):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, target: string, received: string])[] = [
    ['origin-form', '/a/b?c=d', '/a/b?c=d'],
    ['a path that looks like an authority', '//b/c', '//b/c'],
    ['dots and escapes, untouched', '/a/../b/./%2e%2E;c?%7E~&&', '/a/../b/./%2e%2E;c?%7E~&&'],
    ['an escaped line end', '/a%0d%0aX-Y:%20z', '/a%0d%0aX-Y:%20z'],
    ['an empty query', '/?', '/?'],
    ['a target in the query', '/a?next=http://b/c', '/a?next=http://b/c'],
    ['a target of 8,000 bytes (RFC 9112 §3)', `/${'a'.repeat(7_999)}`, `/${'a'.repeat(7_999)}`],
    ['absolute-form', 'http://a/x?y', '/x?y'],
    ['absolute-form without a path', 'http://a', '/'],
    ['absolute-form with an empty path and a query', 'http://a?x=y', '/?x=y'],
    ['absolute-form with another case than Host', 'http://A/x', '/x'],
    ['absolute-form with a scheme in upper case', 'HTTP://a/x', '/x'],
    ['absolute-form with the default port', 'http://a:80/x', '/x'],
    ['absolute-form with an empty port (RFC 3986 §6.2.3)', 'http://a:/x', '/x'],
    ['absolute-form of https', 'https://a/x', '/x'],
    ['absolute-form of https with its default port', 'https://a:443/x', '/x'],
  ];
  for (const [claim, target, received] of rows) {
    test(claim, async (t) => {
      const { startLine } = await assertReachesApp(t, `GET ${target} HTTP/1.1\r\n${HOST}`);
      assert.equal(startLine, `GET ${received} HTTP/1.1`);
    });
  }
});

describe('absolute-form reaches the app with an equivalent Host (RFC 9112 §3.2.2):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, target: string, host: string])[] = [
    ['the default port in Host alone', 'http://a/x', 'a:80'],
    ['the default port of https in Host alone', 'https://a/x', 'a:443'],
    ['the default port in both', 'http://a:80/x', 'a:80'],
    ['an empty port in Host', 'http://a/x', 'a:'],
    ['another port in both', 'http://a:8080/x', 'a:8080'],
    ['a Host in upper case', 'http://my-app.fly.dev/x', 'MY-APP.fly.dev'],
    ['an IPv6 address', 'http://[::1]:8080/x', '[::1]:8080'],
    ['an IPv6 address with the default port', 'http://[::1]/x', '[::1]:80'],
  ];
  for (const [claim, target, host] of rows) {
    test(claim, async (t) => {
      const { startLine } = await assertReachesApp(
        t,
        `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      );
      assert.equal(startLine, 'GET /x HTTP/1.1');
    });
  }
});

test('absolute-form without a Host, in HTTP/1.0, reaches the app with the Host of its target', async (t) => {
  const sidecar = await startRawSidecar(t);
  const { messages } = await sidecar.responsesTo('GET http://b:8080/x HTTP/1.0\r\n\r\n');
  assert.deepEqual(
    messages.map(({ startLine }) => statusOf(startLine)),
    [200],
  );
  const [request] = sidecar.app.requests;
  assert.equal(request?.startLine, 'GET /x HTTP/1.1');
  assert.deepEqual(
    request.fields.filter(([name]) => name.toLowerCase() === 'host'),
    [['Host', 'b:8080']],
  );
});

describe('server-wide OPTIONS reaches the app in asterisk-form (RFC 9112 §3.2.4):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, target: string, received: string])[] = [
    ['asterisk-form', '*', '*'],
    ['absolute-form without a path', 'http://a', '*'],
    ['absolute-form without a path, with the default port', 'http://a:80', '*'],
    ['absolute-form of https without a path', 'https://a', '*'],
    ['absolute-form with a path is not server-wide', 'http://a/', '/'],
    ['absolute-form with a query is not server-wide', 'http://a?x', '/?x'],
  ];
  for (const [claim, target, received] of rows) {
    test(claim, async (t) => {
      const { startLine } = await assertReachesApp(t, `OPTIONS ${target} HTTP/1.1\r\n${HOST}`);
      assert.equal(startLine, `OPTIONS ${received} HTTP/1.1`);
    });
  }
});

describe('a target is rejected:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, target: string])[] = [
    ['an asterisk with another method than OPTIONS', '*'],
    ['an asterisk and more', '*/x'],
    ['a path without a slash', 'x'],
    ['a query alone', '?x'],
    ['authority-form', 'a:80'],
    ['a fragment', '/x#y'],
    ['a fragment of an absolute-form', 'http://a#y'],
    ['another host than Host', 'http://b/x'],
    ['a host that begins like Host', 'http://a.b/x'],
    ['a port that Host does not have', 'http://a:8080/x'],
    ['the default port of another scheme', 'http://a:443/x'],
    ['a user in the authority', 'http://u@a/x'],
    ['a user that looks like Host', 'http://a@b/x'],
    ['no host', 'http:///x'],
    ['no authority', 'http:/x'],
    ['a scheme that is not HTTP', 'ftp://a/x'],
    ['a space', '/x y'],
    ['a tab', '/x\ty'],
    ['a form feed', '/x\x0cy'],
    ['a NUL', '/x\0y'],
    ['a control character', '/x\x01y'],
    ['a DEL', '/x\x7fy'],
    ['a CR', '/x\ry'],
  ];
  for (const [claim, target] of rows) {
    test(claim, (t) => assertRejected(t, `GET ${target} HTTP/1.1\r\n${HOST}`));
  }
});

describe('a version is rejected with 505 (RFC 9110 §15.6.6):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['HTTP/1.2', `GET /x HTTP/1.2\r\n${HOST}`],
    ['HTTP/1.9', `GET /x HTTP/1.9\r\n${HOST}`],
    ['HTTP/2.0', `GET /x HTTP/2.0\r\n${HOST}`],
    ['HTTP/3.0', `GET /x HTTP/3.0\r\n${HOST}`],
    ['HTTP/9.9', `GET /x HTTP/9.9\r\n${HOST}`],
    ['the preface of HTTP/2 (RFC 9113 §3.4)', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['the preface and a SETTINGS frame', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertRejected(t, sent, 505));
});

test('an explicit HTTP/0.9 is rejected with 400 or 505', (t) =>
  assertRejected(t, `GET /x HTTP/0.9\r\n${HOST}`, [400, 505]));

describe('a version is rejected with 400 (RFC 9112 §2.3):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, version: string])[] = [
    ['none: HTTP/0.9', ''],
    ['none, after a space', ' '],
    ['no number', ' HTTP'],
    ['no minor number', ' HTTP/1'],
    ['no digit of the minor number', ' HTTP/1.'],
    ['no digit of the major number', ' HTTP/.1'],
    ['two digits of the minor number', ' HTTP/1.10'],
    ['two digits of the major number', ' HTTP/11.1'],
    ['a leading zero', ' HTTP/01.1'],
    ['leading zeros', ' HTTP/01.01'],
    ['a sign', ' HTTP/+1.1'],
    ['three numbers', ' HTTP/1.1.1'],
    ['a comma', ' HTTP/1,1'],
    ['lower case', ' http/1.1'],
    ['mixed case', ' Http/1.1'],
    ['another protocol', ' HTTPS/1.1'],
    ['a protocol of RTSP', ' RTSP/1.0'],
    ['a space before the slash', ' HTTP /1.1'],
    ['a space after the slash', ' HTTP/ 1.1'],
    ['a space around the dot', ' HTTP/1 .1'],
    ['a space after it', ' HTTP/1.1 '],
    ['a tab after it', ' HTTP/1.1\t'],
    ['a letter after it', ' HTTP/1.1x'],
    ['another word after it', ' HTTP/1.1 HTTP/1.1'],
    ['a NUL after it', ' HTTP/1.1\0'],
  ];
  for (const [claim, version] of rows) {
    test(claim, (t) => assertRejected(t, `GET /x${version}\r\n${HOST}`));
  }
});

test('an HTTP/1.0 request reaches the app as HTTP/1.1 (RFC 9110 §2.5)', async (t) => {
  const sidecar = await startRawSidecar(t);
  const { messages } = await sidecar.responsesTo(`GET /x HTTP/1.0\r\n${HOST}`);
  assert.equal(messages[0]?.startLine, 'HTTP/1.1 200 OK');
  assert.deepEqual(
    sidecar.app.requests.map(({ startLine }) => startLine),
    ['GET /x HTTP/1.1'],
  );
});

describe('extra white space in a request line is rejected (RFC 9112 §3):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, line: string])[] = [
    ['before the method', ' GET /x HTTP/1.1'],
    ['a tab before the method', '\tGET /x HTTP/1.1'],
    ['two spaces before the target', 'GET  /x HTTP/1.1'],
    ['two spaces before the version', 'GET /x  HTTP/1.1'],
    ['a tab before the target', 'GET\t/x HTTP/1.1'],
    ['a tab before the version', 'GET /x\tHTTP/1.1'],
    ['a vertical tab before the version', 'GET /x\x0bHTTP/1.1'],
    ['no space before the target', 'GET/x HTTP/1.1'],
    ['no target', 'GET HTTP/1.1'],
    ['an empty target', 'GET  HTTP/1.1'],
    ['nothing but spaces', '   '],
  ];
  for (const [claim, line] of rows) test(claim, (t) => assertRejected(t, `${line}\r\n${HOST}`));
});

describe('a line end of a request line other than CRLF is rejected (RFC 9112 §2.2):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['LF', `GET /x HTTP/1.1\n${HOST}`],
    ['CR', `GET /x HTTP/1.1\r${HOST}`],
    ['CR CR LF', `GET /x HTTP/1.1\r\r\n${HOST}`],
    ['LF CR', `GET /x HTTP/1.1\n\r${HOST}`],
    ['LF throughout', 'GET /x HTTP/1.1\nHost: a\n\n'],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertRejected(t, sent));
});

describe('empty lines before a request line are skipped (RFC 9112 §2.2):', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['one', `\r\nGET /x HTTP/1.1\r\n${HOST}`],
    ['two', `\r\n\r\nGET /x HTTP/1.1\r\n${HOST}`],
    ['one before the next request', `GET /x HTTP/1.1\r\n${HOST}\r\n`],
    ['one after a body, as old browsers send', 'GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n'],
  ];
  for (const [claim, sent] of rows) {
    test(claim, async (t) => {
      const { startLine } = await assertReachesApp(t, sent);
      assert.equal(startLine, 'GET /x HTTP/1.1');
    });
  }
});

describe('input that is not HTTP is rejected:', () => {
  // prettier-ignore
  const rows: readonly (readonly [claim: string, sent: string])[] = [
    ['a TLS ClientHello', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n'],
    ['an SSH banner', 'SSH-2.0-OpenSSH_9.9\r\n\r\n'],
    ['a PROXY protocol header', `PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\nGET /x HTTP/1.1\r\n${HOST}`],
    ['a response', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['a word before a request', `Extra lineGET /x HTTP/1.1\r\n${HOST}`],
  ];
  for (const [claim, sent] of rows) test(claim, (t) => assertRejected(t, sent));
});

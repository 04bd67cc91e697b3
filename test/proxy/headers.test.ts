import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  headerValue,
  passableTrailers,
  readFields,
  responseHeaders,
  withForwarded,
  withHeader,
  type HeadFields,
  type RawHeaders,
} from '../../src/proxy/headers.ts';

const HOP_BY_HOP = [
  ...['Connection', 'Keep-Alive', 'Proxy-Connection', 'TE', 'Transfer-Encoding', 'Upgrade'],
  'Expect',
];

describe('what is for the app', () => {
  test('is every pair in order and case, repeated ones and strange ones too', () => {
    const raw = ['HOST', 'a', 'X-Two', '1', 'x-two', '2', 'X-Empty', '', 'X-Umlaut', '\xfc'];
    assert.deepEqual(readFields(raw).endToEnd, raw);
    assert.deepEqual(responseHeaders(raw), raw);
  });

  for (const name of HOP_BY_HOP) {
    test(`is not ${name}, however it is written`, () => {
      for (const spelt of [name, name.toLowerCase(), name.toUpperCase()]) {
        const raw = ['X-A', '1', spelt, 'x', 'X-B', '2'];
        assert.deepEqual(readFields(raw).endToEnd, ['X-A', '1', 'X-B', '2']);
        assert.deepEqual(responseHeaders(raw), ['X-A', '1', 'X-B', '2']);
      }
    });
  }

  const named: readonly (readonly [claim: string, raw: RawHeaders, kept: RawHeaders])[] = [
    ['is not what Connection names', ['Connection', 'X-A', 'x-a', '1', 'X-B', '2'], ['X-B', '2']],
    [
      'is not what one of several Connections names, in a list with blanks',
      ['Connection', 'keep-alive', 'X-A', '1', 'connection', 'close ,\tx-a,', 'X-B', '2'],
      ['X-B', '2'],
    ],
    [
      'is what the message makes no sense without, whatever Connection names',
      ['Connection', 'host, content-length, content-type', 'Host', 'a', 'Content-Length', '1'],
      ['Host', 'a', 'Content-Length', '1'],
    ],
    [
      'is what the edge says, whatever Connection names',
      [
        ...['Connection', 'Fly-Replay-Src, fly-client-ip, X-Forwarded-For, forwarded, via'],
        ...['fly-replay-src', 'instance=m1', 'Fly-Client-IP', '::1', 'X-Forwarded-For', '::1'],
        ...['Forwarded', 'for=a', 'Via', '2 fly.io'],
      ],
      [
        ...['fly-replay-src', 'instance=m1', 'Fly-Client-IP', '::1', 'X-Forwarded-For', '::1'],
        ...['Forwarded', 'for=a', 'Via', '2 fly.io'],
      ],
    ],
  ];
  for (const [claim, raw, kept] of named) {
    test(claim, () => {
      assert.deepEqual(readFields(raw).endToEnd, kept);
      assert.deepEqual(responseHeaders(raw), kept);
    });
  }

  test('has no pair that was not there, and keeps the order, whatever is sent', () => {
    const word = fc.constantFrom(
      ...HOP_BY_HOP,
      'x-a',
      'X-B',
      'Host',
      'fly-replay-src',
      'keep-alive',
    );
    const pairs = fc.array(fc.tuple(word, fc.oneof(word, fc.string({ maxLength: 5 }))));
    const textOf = (all: RawHeaders): string => all.join('\n');
    fc.assert(
      fc.property(pairs, (sent) => {
        const raw = sent.flat();
        for (const kept of [readFields(raw).endToEnd, responseHeaders(raw)]) {
          let rest = sent.map(textOf);
          for (let i = 0; i < kept.length; i += 2) {
            const at = rest.indexOf(textOf(kept.slice(i, i + 2)));
            assert.ok(at >= 0);
            rest = rest.slice(at + 1);
          }
        }
      }),
    );
  });
});

describe('what the wire needs to know', () => {
  const rows: readonly (readonly [raw: RawHeaders, fields: Partial<HeadFields>])[] = [
    [[], { host: undefined, hostCount: 0, connection: undefined, hasForwardedFor: false }],
    [['HOST', 'a'], { host: 'a', hostCount: 1 }],
    [['host', 'a', 'Host', 'a'], { host: 'a', hostCount: 2 }],
    [['Connection', 'a', 'connection', 'b'], { connection: 'a,b' }],
    [['Transfer-Encoding', 'a', 'TRANSFER-ENCODING', 'b'], { transferEncoding: 'a,b' }],
    [
      ['Connection', 'transfer-encoding', 'Transfer-Encoding', 'chunked'],
      { transferEncoding: 'chunked' },
    ],
    [['Content-Length', '7'], { contentLength: '7' }],
    [['Connection', 'Upgrade', 'Upgrade', 'websocket'], { upgrade: 'websocket' }],
    [['Fly-Request-Id', 'r'], { requestId: 'r' }],
    [['fly-replay-src', 'x'], { replaySource: 'x' }],
    [['FLY-REPLAY-FAILED', ''], { replayFailed: '' }],
    [['Connection', 'fly-replay-failed', 'fly-replay-failed', 'x'], { replayFailed: 'x' }],
    [['fly-replay-cache-status', 'hit'], { replayCacheStatus: 'hit' }],
    [['X-Forwarded-For', ''], { hasForwardedFor: true, hasForwardedProto: false }],
    [['x-forwarded-proto', 'https'], { hasForwardedFor: false, hasForwardedProto: true }],
  ];
  for (const [raw, fields] of rows) {
    test(`is read out of ${JSON.stringify(raw)}`, () => {
      const read = readFields(raw);
      assert.deepEqual({ ...read, ...fields }, read);
    });
  }
});

describe('what the edge has not said', () => {
  const by = { remoteAddress: '::1', upstreamHost: 'app:3000' };
  const rows: readonly (readonly [sent: RawHeaders, passed: RawHeaders])[] = [
    [[], ['Host', 'app:3000', 'X-Forwarded-For', '::1', 'X-Forwarded-Proto', 'http']],
    [
      ['host', 'a', 'x-forwarded-for', 'b, c'],
      ['host', 'a', 'x-forwarded-for', 'b, c', 'X-Forwarded-Proto', 'http'],
    ],
    [
      ['Host', '', 'X-Forwarded-Proto', 'https'],
      ['Host', '', 'X-Forwarded-Proto', 'https', 'X-Forwarded-For', '::1'],
    ],
  ];
  for (const [sent, passed] of rows) {
    test(`is added to ${JSON.stringify(sent)}`, () => {
      const fields = readFields(sent);
      assert.deepEqual(withForwarded(fields.endToEnd, fields, by), passed);
    });
  }

  test('costs no copy where it has said all', () => {
    const fields = readFields(['host', 'a', 'x-forwarded-for', 'b', 'x-forwarded-proto', 'https']);
    assert.equal(withForwarded(fields.endToEnd, fields, by), fields.endToEnd);
  });
});

test('trailers pass, but none that frames, routes, teaches or sets a cookie', () => {
  const harmless = ['X-Checksum', 'abc', 'x-checksum', 'def', 'Server-Timing', 'a'];
  const raw = [
    ...['Content-Length', '9', 'Transfer-Encoding', 'chunked', 'Host', 'a', 'Connection', 'x'],
    ...['Fly-Replay', 'instance=m2', 'fly-replay-cache', 'invalidate', 'X-Forwarded-For', 'a'],
    ...['Set-Cookie', 'sid=1', 'MCP-Session-Id', 'abc', ...harmless],
  ];
  assert.deepEqual(passableTrailers(raw, new Set(['mcp-session-id'])), harmless);
  const none: RawHeaders = [];
  assert.equal(passableTrailers(none, new Set()), none);
});

test('a header is found by its lower-case name, the first of several', () => {
  assert.equal(headerValue(['A', '1', 'X-A', '2', 'x-a', '3'], 'x-a'), '2');
  assert.equal(headerValue(['A', 'x-a'], 'x-a'), undefined);
});

test('a header that is set takes the place of all there are of that name', () => {
  const raw = ['Accept-Encoding', 'gzip', 'A', '1', 'accept-encoding', 'br'];
  assert.deepEqual(withHeader(raw, 'accept-encoding', 'identity'), [
    ...['A', '1', 'accept-encoding', 'identity'],
  ]);
});

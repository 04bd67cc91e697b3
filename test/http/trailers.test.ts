import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrailerReader } from '../../src/http/chunks.ts';
import { cuts } from './parsing.ts';

const OPTIONS = {
  maxBytes: 1_000,
  maxFields: 10,
  forbidden: new Set(['mcp-session-id', 'x-room']),
};

interface Read {
  readonly text: string | undefined;
  /** Where the section ends, in bytes of all pieces. Undefined if it does not end. */
  readonly end: number | undefined;
  readonly isMalformed: boolean;
}

function read(pieces: readonly string[], options = OPTIONS): Read {
  const reader = new TrailerReader(options);
  let before = 0;
  for (const piece of pieces) {
    // Place each piece inside a larger buffer.
    const bytes = Buffer.from(`<<${piece}>>`, 'latin1');
    const end = reader.read(bytes, 2, bytes.length - 2);
    if (end === -1) return { text: undefined, end: undefined, isMalformed: true };
    const { text } = reader;
    if (text !== undefined) return { text, end: before + end - 2, isMalformed: false };
    assert.equal(end, bytes.length - 2);
    before += piece.length;
  }
  return { text: undefined, end: undefined, isMalformed: false };
}

describe('trailers', () => {
  const passed: readonly (readonly [section: string, text: string])[] = [
    ['\r\n', '\r\n'],
    ['X-Sum: 1\r\n\r\n', 'X-Sum: 1\r\n\r\n'],
    ['X-Sum:1\r\nx-sum: \t2 \r\n\r\n', 'X-Sum: 1\r\nx-sum: 2\r\n\r\n'],
    ['X-Empty:\r\n\r\n', 'X-Empty: \r\n\r\n'],
    ['X-A: \xe9\xff\r\n\r\n', 'X-A: \xe9\xff\r\n\r\n'],
    ['Server-Timing: a\r\ngrpc-status: 0\r\n\r\n', 'Server-Timing: a\r\ngrpc-status: 0\r\n\r\n'],
    ['Contents: a\r\nX-Fly-Replay: a\r\n\r\n', 'Contents: a\r\nX-Fly-Replay: a\r\n\r\n'],
  ];
  for (const [section, text] of passed) {
    test(`of ${JSON.stringify(section)} pass, for every split`, () => {
      for (const pieces of cuts(section)) {
        assert.deepEqual(read(pieces), { text, end: section.length, isMalformed: false });
      }
      const followed = read([`${section}GET / HTTP/1.1\r\n\r\n`]);
      assert.deepEqual(followed, { text, end: section.length, isMalformed: false });
    });
  }

  // RFC 9110 §6.5.1, and fields that reveal or replay a session.
  const FORBIDDEN = [
    ...['Content-Length', 'Transfer-Encoding', 'Host', 'Connection', 'Keep-Alive', 'Upgrade', 'TE'],
    ...['Trailer', 'Expect', 'Proxy-Connection', 'Via', 'X-Forwarded-For', 'X-Forwarded-Proto'],
    ...['Authorization', 'Proxy-Authorization', 'WWW-Authenticate', 'Proxy-Authenticate'],
    ...['Cookie', 'Set-Cookie', 'Content-Type', 'Content-Encoding', 'Content-Range', 'Location'],
    ...['Cache-Control', 'Age', 'Date', 'Expires', 'Vary', 'Retry-After', 'Max-Forwards', 'Range'],
    ...['Forwarded', 'Origin', 'Content-Disposition', 'If-Match', 'If-None-Match'],
    ...['Access-Control-Allow-Origin', 'X-Forwarded-Host', 'Fly-Replay', 'Fly-Replay-Cache'],
    ...['Fly-Client-IP', 'X-Fly-Affinity-Refused', 'Mcp-Session-Id', 'X-Room'],
  ];
  for (const name of FORBIDDEN) {
    test(`named ${name} are dropped, in any case, and no others`, () => {
      for (const spelt of [name, name.toLowerCase(), name.toUpperCase()]) {
        const { text } = read([`X-A: 1\r\n${spelt}: x\r\nX-B: 2\r\n\r\n`]);
        assert.equal(text, 'X-A: 1\r\nX-B: 2\r\n\r\n');
      }
    });
  }

  test('that are all dropped leave an empty section', () => {
    assert.equal(read(['Content-Length: 1\r\n\r\n']).text, '\r\n');
  });

  const malformed: readonly (readonly [name: string, section: string])[] = [
    ['no colon', 'X-A\r\n\r\n'],
    ['a space before the colon', 'X-A : b\r\n\r\n'],
    ['a folded line', 'X-A: b\r\n c\r\n\r\n'],
    ['a bare LF', 'X-A: b\n\r\n'],
    ['a bare LF as the empty line', 'X-A: b\r\n\n'],
    ['a bare LF at once', '\n'],
    ['a NUL', 'X-A: \0\r\n\r\n'],
    ['a malformed line that is followed by others', 'X-A\r\nX-B: c\r\n\r\n'],
  ];
  for (const [name, section] of malformed) {
    test(`with ${name} are rejected, for every split`, () => {
      for (const pieces of cuts(section)) assert.ok(read(pieces).isMalformed);
    });
  }

  test('are rejected at the end of a malformed line', () => {
    assert.ok(read(['X-A\r\n']).isMalformed);
    assert.ok(!read(['X-A']).isMalformed);
  });

  test('may have up to the allowed length, in one piece or byte by byte', () => {
    const section = `A: ${'b'.repeat(200)}\r\nC: d\r\n\r\n`;
    for (const pieces of [[section], [`${section}GET / HTTP/1.1\r\n`], Array.from(section)]) {
      assert.equal(read(pieces, { ...OPTIONS, maxBytes: section.length }).end, section.length);
      assert.ok(read(pieces, { ...OPTIONS, maxBytes: section.length - 1 }).isMalformed);
    }
    assert.ok(read(['A: ', 'b'.repeat(1_000)]).isMalformed, 'without an end');
  });

  test('may have up to the allowed count', () => {
    assert.ok(read([`${'A: b\r\n'.repeat(10)}\r\n`]).text);
    assert.ok(read([`${'A: b\r\n'.repeat(11)}\r\n`]).isMalformed);
  });
});

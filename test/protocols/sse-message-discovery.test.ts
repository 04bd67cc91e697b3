/** Ids in the messages of an event stream, with each kind of line end, and cut anywhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_HELD_BYTES } from '../../src/protocols/body-inspector.ts';
import {
  SseMessageInspector,
  type MessageIdsReader,
} from '../../src/protocols/sse-message-discovery.ts';
import { cutText, passBody } from './bodies.ts';
import { protocolsOf } from './heads.ts';

const [protocol] = protocolsOf('responses');
assert.ok(protocol);
const discovery = protocol.discoveries.find(({ from }) => from === 'sse-message');
assert.ok(discovery?.from === 'sse-message');
const READERS: readonly MessageIdsReader[] = [{ protocol, discovery }];
const DATA = '{"response":{"id":"resp_1"}}';
const ESCAPED = DATA.replace('response', String.raw`\u0072esponse`);
const LONG = 'data: {"type":"ping"}\n\n'.repeat(MAX_HELD_BYTES / 20);
const MARK = '\xef\xbb\xbf';

// prettier-ignore
const STREAMS: readonly (readonly [claim: string, stream: string, id: string | undefined])[] = [
  ['lines that end with LF', `event: created\ndata: ${DATA}\n\nrest`, 'resp_1'],
  ['with CR', `event: created\rdata: ${DATA}\r\rrest`, 'resp_1'],
  ['with CRLF', `event: created\r\ndata: ${DATA}\r\n\r\nrest`, 'resp_1'],
  ['with each of them', `: hello\r\nevent: created\rdata:${DATA}\n\r\nrest`, 'resp_1'],
  ['a byte order mark before the data', `${MARK}data: ${DATA}\n\n`, 'resp_1'],
  ['a byte order mark alone in its line', `${MARK}\ndata: ${DATA}\n\n`, 'resp_1'],
  ['a byte order mark that is not at the beginning', `\n${MARK}data: ${DATA}\n\n`, undefined],
  ['data in several lines', 'data: {"response":\ndata\ndata: {"id":"resp_1"}}\n\n', 'resp_1'],
  ['a field whose name only begins with data', `data2: ${DATA}\n\n`, undefined],
  ['a name in capitals', `DATA: ${DATA}\n\n`, undefined],
  ['in the second message', `data: {"type":"ping"}\n\n: pad\n\ndata: ${DATA}\n\n`, 'resp_1'],
  ['an event that ends with the stream', `data: ${DATA}`, 'resp_1'],
  ['an event that ends with a line', `data: ${DATA}\r\n`, 'resp_1'],
  ['two documents, of which the first counts', `data: ${DATA}\ndata: ${DATA}\n\n`, 'resp_1'],
  ['in the first message of a long stream', `data: ${DATA}\n\n${LONG}`, 'resp_1'],
  ['in the second of a long one', `data: {}\n\ndata: ${DATA}\n\n${LONG}`, 'resp_1'],
  ['under an escaped name in a long one', `data: {}\n\ndata: ${ESCAPED}\n\n${LONG}`, 'resp_1'],
  ['behind the limit', `: ${'x'.repeat(MAX_HELD_BYTES)}\n\ndata: ${DATA}\n\n`, undefined],
  ['on the limit', `data: ${DATA}\n\n`.padStart(MAX_HELD_BYTES, '\n'), 'resp_1'],
  ['one byte behind it', `data: ${DATA}\n\n`.padStart(MAX_HELD_BYTES + 1, '\n'), undefined],
];

for (const [claim, stream, id] of STREAMS) {
  test(`an id in a message: ${claim}`, () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 12 }), (positions) => {
        const passed = passBody(new SseMessageInspector(READERS), cutText(stream, positions));
        assert.equal(passed.id, id);
        assert.equal(passed.out, stream);
      }),
      { examples: [[[]], [Array.from({ length: Math.min(stream.length, 600) }, (_, i) => i)]] },
    );
  });
}

test('data waits for the end of its message, and lines without data only for their own', () => {
  const inspector = new SseMessageInspector(READERS);
  const push = (text: string): string =>
    Buffer.from(inspector.push(Buffer.from(text)).out ?? []).toString();
  assert.equal(push(': hello'), '');
  assert.equal(push('\nevent: crea'), ': hello\n');
  assert.equal(push('ted\r'), 'event: created\r');
  assert.equal(push('\n'), '\n');
  assert.equal(push('data: {}\r\n'), '');
  assert.equal(push('id: 1\n'), '');
  assert.equal(push('\nda'), 'data: {}\r\nid: 1\n\n');
  assert.equal(push('tum: x\n'), 'datum: x\n');
});

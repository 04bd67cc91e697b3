/** Bytes that cost their sender nothing must cost little here: the time grows with the length of what is sent. */
import { RequestParser } from '../../src/http/request-parser.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_LIMITS } from '../../src/http/limits.ts';
import { startListener } from './client-support.ts';
import { eventually, RecordingEnd } from './support.ts';

/** So much that anything quadratic takes minutes. */
const MANY = 1_000_000;
const LIMITS = { ...DEFAULT_LIMITS, headBytes: 2 * MANY };

test(
  'a run of blanks within a token of Connection takes no longer than its length',
  { timeout: 20_000 },
  () => {
    const parser = new RequestParser({ ...LIMITS, protectedNames: new Set() });
    const value = `a${' '.repeat(MANY)}b, close`;
    const bytes = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\nConnection: ${value}\r\n\r\n`);
    const parsed = parser.parse(bytes, 0, bytes.length);
    assert.ok(parsed && 'head' in parsed);
    assert.equal(parsed.head.wantsClose, true);
  },
);

test('a byte that is kept from the end of a long read does not keep the rest of it', async (t) => {
  const upstream = new MeasuringEnd();
  const { connect } = await startListener(t, (exchange) => {
    exchange.openTunnel('HTTP/1.1 101 Switching Protocols\r\n\r\n', upstream);
  });
  const client = await connect();
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
  client.send(`GET / HTTP/1.1\r\nHost: a\r\n${upgrade}X-A: ${'a'.repeat(20_000)}\r\n\r\nb`);
  await eventually(() => upstream.text === 'b');
  assert.equal(upstream.keptBytes, 1);
});

/** Notes how much memory is kept by what it is given. */
class MeasuringEnd extends RecordingEnd {
  keptBytes = 0;

  override write(bytes: Buffer, start: number, end: number): boolean {
    this.keptBytes += bytes.buffer.byteLength;
    return super.write(bytes, start, end);
  }
}

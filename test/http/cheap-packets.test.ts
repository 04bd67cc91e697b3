/** Cheap input must be cheap to process: the time grows linearly with the length of the input. */
import { RequestParser } from '../../src/http/request-parser.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_LIMITS } from '../../src/http/limits.ts';
import { startListener } from './client-support.ts';
import { eventually, RecordingEnd } from './support.ts';

/** So large that a quadratic algorithm takes minutes. */
const MANY = 1_000_000;
const LIMITS = { ...DEFAULT_LIMITS, headBytes: 2 * MANY };

test('a run of spaces within a token of Connection takes linear time', { timeout: 20_000 }, () => {
  const parser = new RequestParser({ ...LIMITS, protectedNames: new Set() });
  const value = `a${' '.repeat(MANY)}b, close`;
  const bytes = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\nConnection: ${value}\r\n\r\n`);
  const parsed = parser.parse(bytes, 0, bytes.length);
  assert.ok(parsed && 'head' in parsed);
  assert.equal(parsed.head.wantsClose, true);
});

test('a byte kept from a long read does not keep the whole buffer in memory', async (t) => {
  const upstream = new MeasuringEnd();
  const { connect } = await startListener(t, (request) => {
    request.openTunnel('HTTP/1.1 101 Switching Protocols\r\n\r\n', upstream);
  });
  const client = await connect();
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
  client.send(`GET / HTTP/1.1\r\nHost: a\r\n${upgrade}X-A: ${'a'.repeat(20_000)}\r\n\r\nb`);
  await eventually(() => upstream.text === 'b');
  assert.equal(upstream.keptBytes, 1);
});

/** Measures how much memory the received bytes keep. */
class MeasuringEnd extends RecordingEnd {
  keptBytes = 0;

  override write(bytes: Buffer, start: number, end: number): boolean {
    this.keptBytes += bytes.buffer.byteLength;
    return super.write(bytes, start, end);
  }
}

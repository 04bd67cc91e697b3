import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { serve } from '../support/sidecar.ts';
import { answering, exchange, openUpstream, startRawServer } from './support.ts';

test('a GET reaches a node:http server, and the answer comes back whole', async (t) => {
  const port = await serve(
    t,
    createServer((req, res) => {
      let body = '';
      req.on('data', (b: Buffer) => (body += b.toString()));
      req.on('end', () => res.end(`${req.method ?? ''} ${req.url ?? ''} ${body}`));
    }),
  );
  const upstream = openUpstream(t, `http://localhost:${port}`);
  const a = await exchange(upstream, { path: '/a?b' });
  assert.equal(a.text, 'GET /a?b ');
  const b = await exchange(upstream, { method: 'POST', body: Buffer.from('hello') });
  assert.equal(b.text, 'POST / hello');
  const c = await exchange(upstream, {
    method: 'POST',
    body: Readable.from([Buffer.from('he'), Buffer.from('llo')]),
  });
  assert.equal(c.text, 'POST / hello');
  const d = await exchange(upstream, {
    method: 'POST',
    headers: ['Content-Length', '5', 'Host', 'x'],
    body: Readable.from([Buffer.from('he'), Buffer.from('llo')]),
  });
  assert.equal(d.text, 'POST / hello');
});

test('chunked', async (t) => {
  const { origin } = await startRawServer(
    t,
    answering(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n',
    ),
  );
  const upstream = openUpstream(t, origin);
  const a = await exchange(upstream);
  assert.deepEqual(
    [a.text, a.rawTrailers, a.calls],
    ['abcde', ['X-T', '1'], ['sent', 'head', 'data', 'end']],
  );
});

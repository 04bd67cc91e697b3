import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { createDemoApp } from '../../src/simulator/demo-app.ts';
import { sendRequest, startMachine, type TestResponse } from './support.ts';

const DOORS = [
  { path: '/mcp', header: 'mcp-session-id' },
  { path: '/rpc', header: 'x-session-id' },
];

for (const { path, header } of DOORS) {
  test(`a session of ${path} is created, counts, streams and ends`, async (t) => {
    const [listener] = createDemoApp('a1').listeners('request') as [
      Parameters<typeof startMachine>[2],
    ];
    const { port } = await startMachine(t, 'a1', listener);
    const url = `http://127.0.0.1:${port}`;
    const call = (method: string, session?: string): Promise<TestResponse> =>
      sendRequest(url, {
        method: 'POST',
        path,
        headers: session === undefined ? {} : { [header]: session },
        body: JSON.stringify({ jsonrpc: '2.0', id: 7, method }),
      });
    const opened = await call('initialize');
    const session = opened.headers[header]?.toString() ?? '';
    assert.match(session, /^[0-9a-f-]{36}$/);

    const stream = httpRequest(`${url}${path}`, { headers: { [header]: session }, agent: false });
    const [events] = (await once(stream.end(), 'response')) as [IncomingMessage];
    const ended = once(events, 'end');
    assert.equal(events.headers['content-type'], 'text/event-stream');
    assert.deepEqual(JSON.parse((await call('count', session)).body), {
      jsonrpc: '2.0',
      id: 7,
      result: { machine: 'a1', count: 1 },
    });
    assert.match(String((await once(events, 'data'))[0]), /^data: .*"count":1/);

    assert.equal(
      (await sendRequest(url, { method: 'DELETE', path, headers: { [header]: session } })).status,
      204,
    );
    await ended;
    assert.equal((await call('count', session)).status, 404);
    assert.equal((await call('count')).status, 400);
  });
}

test('an invalid request returns 400, and one without a session lists the endpoints', async (t) => {
  const [listener] = createDemoApp('a1').listeners('request') as [
    Parameters<typeof startMachine>[2],
  ];
  const { port } = await startMachine(t, 'a1', listener);
  const url = `http://127.0.0.1:${port}`;
  for (const body of ['', '{', 'null', '"initialize"']) {
    assert.equal((await sendRequest(url, { method: 'POST', path: '/mcp', body })).status, 400);
  }
  assert.match((await sendRequest(url)).body, /^This is Machine a1\.[^]*\/mcp/);
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type RequestListener } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import {
  sendRequest,
  naming,
  replaying,
  startMachine,
  startTestEdge,
  startUnreachableMachine,
} from './support.ts';

test('round robin sends one request to each Machine in turn', async (t) => {
  const machines = [
    await startMachine(t, 'a1', naming('a1')),
    await startMachine(t, 'b2', naming('b2')),
  ];
  const edge = await startTestEdge(t, machines);
  const served: string[] = [];
  for (let i = 0; i < 4; i += 1) served.push((await sendRequest(edge.url)).body);
  assert.deepEqual(served, ['a1', 'b2', 'a1', 'b2']);
});

test('never-same spreads concurrent requests, too', async (t) => {
  const waiting: (() => void)[] = [];
  const holding: RequestListener = (_request, response) => {
    waiting.push(() => response.end());
    if (waiting.length === 6) for (const response of waiting) response();
  };
  const machines = [
    await startMachine(t, 'a1', holding),
    await startMachine(t, 'b2', holding),
    await startMachine(t, 'c3', holding),
  ];
  const edge = await startTestEdge(t, machines, { spread: 'never-same' });
  await Promise.all(Array.from({ length: 6 }, () => sendRequest(edge.url)));
  const firsts = edge.records.map(({ first }) => first).sort();
  assert.deepEqual(firsts, ['a1', 'a1', 'b2', 'b2', 'c3', 'c3']);
});

test('the edge sets the client address, whatever the client sends', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    response.end(JSON.stringify(request.headers));
  });
  const edge = await startTestEdge(t, [machine], { region: 'lhr' });
  const response = await sendRequest(edge.url, {
    headers: { 'fly-client-ip': '9.9.9.9', 'x-forwarded-for': '8.8.8.8', via: '1.0 cache' },
  });
  const seen = JSON.parse(response.body) as Record<string, string>;
  const { port } = new URL(edge.url);
  assert.equal(seen['fly-client-ip'], '127.0.0.1');
  assert.equal(seen['fly-forwarded-port'], port);
  assert.equal(seen['fly-region'], 'lhr');
  assert.match(seen['fly-request-id'] ?? '', /^[0-9A-Z]{26}-lhr$/);
  assert.equal(seen['fly-request-id'], response.headers['fly-request-id']);
  assert.equal(seen['x-forwarded-for'], '8.8.8.8, 127.0.0.1, 127.0.0.1');
  assert.equal(seen['x-forwarded-proto'], 'http');
  assert.equal(seen['x-forwarded-port'], port);
  assert.equal(seen['x-forwarded-ssl'], 'off');
  assert.equal(seen.via, '1.0 cache, 1.1 fly.io');
});

test('headers keep their order and case, without those of the connection', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    response.end(request.rawHeaders.join('|'));
  });
  const edge = await startTestEdge(t, [machine]);
  const response = await sendRequest(edge.url, {
    headers: { 'X-bEE': '1', Connection: 'x-secret', 'X-Secret': '2', 'x-ant': '3' },
  });
  assert.ok(response.body.includes('X-bEE|1|x-ant|3'));
  assert.ok(!response.body.includes('X-Secret'));
});

test('header values pass byte for byte, both ways', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    const index = request.rawHeaders.indexOf('X-Latin');
    response.setHeader('X-Echo', request.rawHeaders[index + 1] ?? '').end();
  });
  const edge = await startTestEdge(t, [machine]);
  const latin1 = Buffer.from([0x67, 0xfc, 0x6e]).toString('latin1');
  const response = await sendRequest(edge.url, { headers: { 'X-Latin': latin1 } });
  assert.equal(response.headers['x-echo'], latin1);
});

test('replay headers of a client are passed on, unless the edge is configured to strip them', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    response.end(String(request.headers['fly-replay-src']));
  });
  const forged = { headers: { 'fly-replay-src': 'instance=b2' } };
  const trusting = await startTestEdge(t, [machine]);
  assert.equal((await sendRequest(trusting.url, forged)).body, 'instance=b2');
  const stripping = await startTestEdge(t, [machine], { stripsReplayHeaders: true });
  assert.equal((await sendRequest(stripping.url, forged)).body, 'undefined');
});

test('a record has a request and its hops, without the query', async (t) => {
  const a = await startMachine(t, 'a1', replaying('instance=b2'));
  const b = await startMachine(t, 'b2', naming('b2'));
  const edge = await startTestEdge(t, [a, b]);
  const response = await sendRequest(edge.url, { path: '/rpc?session_id=secret' });
  const [record] = edge.records;
  assert.ok(record);
  const { requestId, ms, ...rest } = record;
  assert.equal(requestId, response.headers['fly-request-id']);
  assert.ok(ms > 0);
  assert.deepEqual(rest, {
    method: 'GET',
    path: '/rpc',
    hops: [
      { machine: 'a1', how: 'first' },
      { machine: 'b2', how: 'replay' },
    ],
    first: 'a1',
    served: 'b2',
    replays: 1,
    status: 200,
    error: undefined,
  });
});

test('a body over a megabyte streams to a Machine that accepts it, framed as the client framed it', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    let bytes = 0;
    request.on('data', (chunk: Buffer) => (bytes += chunk.length));
    request.once('end', () => {
      const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
      response.end(JSON.stringify({ bytes, length, encoding }));
    });
  });
  const edge = await startTestEdge(t, [machine]);
  const body = Buffer.alloc(5_000_000);
  const sized = await sendRequest(edge.url, { method: 'POST', body });
  assert.deepEqual(JSON.parse(sized.body), { bytes: 5_000_000, length: '5000000' });
  const headers = { 'transfer-encoding': 'chunked' };
  const chunked = await sendRequest(edge.url, { method: 'DELETE', body, headers });
  assert.deepEqual(JSON.parse(chunked.body), { bytes: 5_000_000, encoding: 'chunked' });
});

test('a POST without a body keeps no body', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    response.end(JSON.stringify(request.headers));
  });
  const edge = await startTestEdge(t, [machine]);
  const socket = connect(Number(new URL(edge.url).port), '127.0.0.1');
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString()));
  await once(socket, 'close');
  assert.match(text, /"content-length":"0"/);
  assert.doesNotMatch(text, /transfer-encoding":/);
});

test('a client may force a Machine, or prefer one', async (t) => {
  const machines = [
    await startMachine(t, 'a1', naming('a1')),
    await startMachine(t, 'b2', naming('b2'), { region: 'lhr' }),
  ];
  const edge = await startTestEdge(t, machines);
  for (const id of ['a1', 'b2', 'a1', 'b2', 'b2']) {
    assert.equal(
      (await sendRequest(edge.url, { headers: { 'fly-force-instance-id': id } })).body,
      id,
    );
    assert.equal(
      (await sendRequest(edge.url, { headers: { 'fly-prefer-instance-id': id } })).body,
      id,
    );
  }
  const forced = await sendRequest(edge.url, { headers: { 'fly-force-instance-id': 'c3' } });
  assert.equal(forced.headers['fly-error'], 'PR02');
  const preferred = await sendRequest(edge.url, { headers: { 'fly-prefer-instance-id': 'c3' } });
  assert.equal(preferred.status, 200);
  const region = { 'fly-force-region': 'lhr' };
  assert.equal((await sendRequest(edge.url, { headers: region })).body, 'b2');
  assert.equal((await sendRequest(edge.url, { headers: region })).body, 'b2');
  const nowhere = await sendRequest(edge.url, { headers: { 'fly-prefer-region': 'xxx' } });
  assert.equal(nowhere.status, 200);
});

test('a Machine that refuses connections is skipped, and is no hop', async (t) => {
  const a = await startUnreachableMachine(t, 'a1');
  const b = await startMachine(t, 'b2', naming('b2'));
  const edge = await startTestEdge(t, [a, b]);
  assert.equal((await sendRequest(edge.url, { method: 'POST', body: 'x' })).body, 'b2');
  assert.deepEqual(edge.records[0]?.hops, [{ machine: 'b2', how: 'first' }]);
});

test('a request is never sent twice once a Machine may have received it', async (t) => {
  let seen = 0;
  const drop = (request: IncomingMessage): void => {
    seen += 1;
    request.socket.destroy();
  };
  const edge = await startTestEdge(t, [
    await startMachine(t, 'a1', drop),
    await startMachine(t, 'b2', drop),
  ]);
  assert.equal(
    (await sendRequest(edge.url, { method: 'POST', body: 'x' })).headers['fly-error'],
    'PU02',
  );
  assert.equal(seen, 1);
});

test('a stream reaches the client piece by piece', async (t) => {
  let push: (text: string) => void = () => undefined;
  const machine = await startMachine(t, 'a1', (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    push = (text) => response.write(text);
  });
  const edge = await startTestEdge(t, [machine]);
  const request = httpRequest(edge.url, { agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  assert.equal(edge.records.length, 1, 'the record exists with the head');
  for (const piece of ['data: 1\n\n', 'data: 2\n\n']) {
    push(piece);
    const [chunk] = (await once(response, 'data')) as [Buffer];
    assert.equal(chunk.toString(), piece);
  }
  request.destroy();
});

test("a Machine detects a client's disconnect, and a client a broken response", async (t) => {
  const left = Promise.withResolvers<undefined>();
  const machine = await startMachine(t, 'a1', (request, response) => {
    if (request.url === '/break') {
      response.writeHead(200, { 'content-length': '10' }).write('half');
      setImmediate(() => response.destroy());
      return;
    }
    response.once('close', () => left.resolve(undefined));
    response.writeHead(200).write('begun');
  });
  const edge = await startTestEdge(t, [machine]);
  const request = httpRequest(edge.url, { agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  request.destroy();
  await left.promise;
  await assert.rejects(sendRequest(edge.url, { path: '/break' }), { code: 'ECONNRESET' });
});

test('a client that disconnects before the response is a 499 in the record', async (t) => {
  const arrived = Promise.withResolvers<IncomingMessage>();
  const machine = await startMachine(t, 'a1', (request) => arrived.resolve(request));
  const recorded = Promise.withResolvers<number>();
  const edge = await startTestEdge(t, [machine], {
    onRecord: ({ status }) => recorded.resolve(status),
  });
  const request = httpRequest(edge.url, { agent: false }).end();
  request.on('error', () => undefined);
  await arrived.promise;
  request.destroy();
  assert.equal(await recorded.promise, 499);
});

test('trailers pass both ways', async (t) => {
  const machine = await startMachine(t, 'a1', (request, response) => {
    request.resume();
    request.once('end', () => {
      response.writeHead(200, { trailer: 'x-sum' });
      response.write('body');
      response.addTrailers({ 'x-sum': String(request.trailers['x-asked']) });
      response.end();
    });
  });
  const edge = await startTestEdge(t, [machine]);
  const request = httpRequest(edge.url, { method: 'POST', agent: false });
  request.setHeader('transfer-encoding', 'chunked');
  request.write('x');
  request.addTrailers({ 'x-asked': '42' });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  await once(response.resume(), 'end');
  assert.equal(response.trailers['x-sum'], '42');
});

test('a response sent before the body was read reaches the client', async (t) => {
  const machine = await startMachine(t, 'a1', (_request, response) => {
    response.writeHead(413).end('too much');
  });
  const edge = await startTestEdge(t, [machine]);
  const response = await sendRequest(edge.url, { method: 'POST', body: Buffer.alloc(300_000) });
  assert.equal(response.status, 413);
});

test('the edge responds to Expect: 100-continue', async (t) => {
  const machine = await startMachine(t, 'a1', naming('a1'));
  const edge = await startTestEdge(t, [machine]);
  const request = httpRequest(edge.url, {
    method: 'POST',
    headers: { expect: '100-continue', 'content-length': 2 },
    agent: false,
  });
  request.flushHeaders();
  await once(request, 'continue');
  request.end('ok');
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  assert.equal(response.resume().statusCode, 200);
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { offDirectory, type DirectoryStatus } from '../../src/fleet/directory.ts';
import { formatResponse } from '../../src/fleet/messages.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';
import {
  B,
  bind,
  C,
  closeGate,
  INCONCLUSIVE,
  KEY,
  listen,
  NONE,
  QUESTION_MS,
  startQueryingMachine,
  startFleet,
  startPeer,
  TTL_MS,
  until,
} from './support.ts';

describe('a query to the peers', () => {
  it('finds the owner, with the generation and the time left', async (t) => {
    const { clock, b, peers, outcomes } = await startFleet(t);
    await bind(b, KEY, 3);
    await clock.advance(1_000);
    const owner = { kind: 'owner', machine: B, generation: 3, ttlMs: TTL_MS - 1_000 };
    assert.deepEqual(await peers.ask(KEY), owner);
    assert.deepEqual(outcomes, ['owner']);
  });

  it('connects to the address of the Machine, under its name', async (t) => {
    const clock = createTestClock();
    const hosts: (string | undefined)[] = [];
    const { port } = await listen(t, (request, response) => {
      hosts.push(request.headers.host);
      response.end(formatResponse({ machine: B, answers: new Map([[KEY, 'no']]) }));
    });
    const peer = { machine: B, host: 'bb.vm.app.internal', port, address: '127.0.0.1' };
    const { peers } = await startQueryingMachine(t, clock, [], {
      directory: {
        others: () => [peer],
        peer: () => peer,
        status: () => ({ kind: 'ok', readAt: 0 }),
      },
    });
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(hosts, [`bb.vm.app.internal:${port}`]);
  });

  it('reports each response, also to a second caller and from the cache', async (t) => {
    const { b, c, peers } = await startFleet(t);
    const openGate = closeGate(c);
    const reported: string[][] = [[], [], []];
    const query = (nth: number): Promise<unknown> =>
      peers.ask(KEY, {
        onResponse: (machine, response) =>
          reported[nth]?.push(`${machine} ${typeof response === 'string' ? response : 'mine'}`),
      });
    const first = query(0);
    await until(() => reported[0]?.length === 1);
    const second = query(1);
    openGate();
    await Promise.all([first, second]);
    await query(2);
    assert.deepEqual(reported, [
      ['bb no', 'cc no'],
      ['bb no', 'cc no'],
      ['bb no', 'cc no'],
    ]);
    assert.deepEqual([b.requests.length, c.requests.length], [1, 1]);
  });

  it('returns none once every peer responds no', async (t) => {
    const { b, c, peers, outcomes } = await startFleet(t);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual([b.requests, c.requests], [['/v1/ask'], ['/v1/ask']]);
    assert.deepEqual(outcomes, ['none']);
  });

  it("treats a peer's claim for a third Machine as a no: a copy proves nothing", async (t) => {
    const { b, peers } = await startFleet(t);
    const copy = { key: KEY, machine: C, origin: 'copied' as const, ttlMs: TTL_MS };
    await b.store.upsert({ ...copy, generation: 1 });
    assert.deepEqual(await peers.ask(KEY), NONE);
  });

  it('ends with the first owner, although another peer does not respond', async (t) => {
    const { b, c, peers } = await startFleet(t);
    const open = closeGate(c);
    await bind(b, KEY);
    assert.equal((await peers.ask(KEY)).kind, 'owner');
    open();
  });

  it('is retried immediately when the idle connection had just been closed', async (t) => {
    const clock = createTestClock();
    let requests = 0;
    const { port } = await listen(t, (request, response) => {
      requests += 1;
      if (requests === 2) request.socket.resetAndDestroy();
      else response.end(formatResponse({ machine: B, answers: new Map([[KEY, 'no']]) }));
    });
    const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
    assert.deepEqual(await peers.ask(KEY), NONE);
    await clock.advance(2_000);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.equal(requests, 3);
  });
});

describe('a query to the peers without a valid response', () => {
  it('is inconclusive when a peer does not respond, after 300 ms', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const response = peers.ask(KEY);
    await until(() => c.requests.length === 1);
    let hasResponse = false;
    void response.then(() => (hasResponse = true));
    await clock.advance(QUESTION_MS - 1);
    assert.equal(hasResponse, false);
    await clock.advance(1);
    assert.deepEqual(await response, INCONCLUSIVE);
    open();
  });

  it('is inconclusive when the store of a peer returns unknown', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B, { isReady: () => false });
    const { peers } = await startQueryingMachine(t, clock, [b]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when no peer listens', async (t) => {
    const { c, peers } = await startFleet(t);
    await c.close();
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when another Machine responds at the address: the address was reassigned', async (t) => {
    const clock = createTestClock();
    const c = await startPeer(t, clock, C);
    await bind(c, KEY);
    const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port: c.port }]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when the peer does not list us yet', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B, { others: [] });
    await bind(b, KEY);
    const { peers } = await startQueryingMachine(t, clock, [b]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  const junk: [string, number, string][] = [
    ['junk', 200, '{"machine":"bb","answers":'],
    ['nothing', 200, ''],
    ['a response to another query', 200, `{"machine":"bb","answers":{"${keyOf('two')}":"no"}}`],
    [
      'a response over the size limit',
      200,
      `{"machine":"bb","answers":{"${KEY}":"no"},"x":"${'x'.repeat(70_000)}"}`,
    ],
    ['an error', 500, `{"machine":"bb","answers":{"${KEY}":"no"}}`],
    ['a redirect', 307, ''],
  ];
  for (const [name, status, body] of junk) {
    it(`is inconclusive when a peer returns ${name}`, async (t) => {
      const clock = createTestClock();
      const { port } = await listen(t, (_, response) => response.writeHead(status).end(body));
      const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
      assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
    });
  }
});

describe('the directory decides what a missing response means', () => {
  const failing: DirectoryStatus = { kind: 'failing', since: 0, reason: 'down' };
  const ok: DirectoryStatus = { kind: 'ok', readAt: 0 };
  const rows: [DirectoryStatus, listsPeer: boolean, expected: string][] = [
    [{ kind: 'static' }, true, 'none'],
    [{ kind: 'static' }, false, 'none'],
    [ok, true, 'none'],
    [ok, false, 'none'],
    [failing, true, 'inconclusive'],
    [failing, false, 'inconclusive'],
    [{ kind: 'starting' }, false, 'inconclusive'],
  ];
  for (const [status, listsPeer, expected] of rows) {
    it(`${status.kind} with ${listsPeer ? 'a' : 'no'} peer that responds no is ${expected}`, async (t) => {
      const clock = createTestClock();
      const b = await startPeer(t, clock, B);
      const { directory } = await startQueryingMachine(t, clock, listsPeer ? [b] : []);
      const { peers } = await startQueryingMachine(t, clock, [], {
        directory: { ...directory, status: () => status },
      });
      assert.equal((await peers.ask(KEY)).kind, expected);
    });
  }

  it('off is none: there is no peer to query', async (t) => {
    const options = { directory: offDirectory };
    const { peers, outcomes } = await startQueryingMachine(t, createTestClock(), [], options);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(outcomes, []);
  });

  it('failing still finds an owner among the known peers', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    await bind(b, KEY);
    const { directory } = await startQueryingMachine(t, clock, [b]);
    const { peers } = await startQueryingMachine(t, clock, [], {
      directory: { ...directory, status: () => failing },
    });
    assert.equal((await peers.ask(KEY)).kind, 'owner');
  });

  it('queries Machines that joined and not those that left', async (t) => {
    const clock = createTestClock();
    const [b, c] = [await startPeer(t, clock, B), await startPeer(t, clock, C)];
    const { directory: before } = await startQueryingMachine(t, clock, [b]);
    const { directory: after } = await startQueryingMachine(t, clock, [c]);
    let now = before;
    const { peers } = await startQueryingMachine(t, clock, [], {
      directory: { others: () => now.others(), peer: (m) => now.peer(m), status: () => ok },
    });
    await peers.ask(KEY);
    now = after;
    await peers.ask(keyOf('two'));
    assert.deepEqual([b.requests.length, c.requests.length], [1, 1]);
    await until(async () => (await b.connections()) === 0);
  });
});

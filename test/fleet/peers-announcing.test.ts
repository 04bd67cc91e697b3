import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Peer } from '../../src/fleet/directory.ts';
import type { SessionKey } from '../../src/session.ts';
import type { SessionStore } from '../../src/store/store.ts';
import { formatResponse, parseAnnounce } from '../../src/fleet/messages.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import {
  B,
  bind,
  C,
  closeGate,
  RESPONSE_DEADLINE_MS,
  createStore,
  INCONCLUSIVE,
  KEY,
  listen,
  NONE,
  ownBinding,
  readBody,
  SELF,
  startQueryingMachine,
  startFleet,
  startPeer,
  startScriptedPeer,
  TTL_MS,
  until,
  STATUS,
} from './support.ts';

describe('two owners of one key', () => {
  const claim = { generation: 1, origin: 'learned', createdAt: 1_000, ttlMs: 5_000 } as const;

  it('are ranked for callers that arrive while a response is still in flight', async (t) => {
    const clock = createTestClock();
    const b = await startScriptedPeer(t, B, () => ({ ...claim, generation: 1 }));
    const slow = Promise.withResolvers<undefined>();
    const c = await startPeer(t, clock, C);
    c.gate = slow.promise;
    await bind(c, KEY, 2);
    const d = await startPeer(t, clock, machineId('dd'));
    const open = closeGate(d);
    const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port: b.port }, c, d]);
    const first = await peers.ask(KEY);
    assert.ok(first.kind === 'owner' && first.machine === B);
    slow.resolve(undefined);
    await until(async () => {
      const later = await peers.ask(KEY);
      return later.kind === 'owner' && later.machine === C;
    });
    open();
  });

  it('are resolved by the claim in the query: the peer yields to the claim that outranks it', async (t) => {
    const { clock, b, peers, outrankedBy } = await startFleet(t);
    const ours = ownBinding(clock);
    await clock.advance(10_000);
    await bind(b, KEY);
    assert.deepEqual(await peers.ask(KEY, { ownBinding: ours }), NONE);
    assert.deepEqual(b.conflicts, ['released']);
    assert.deepEqual(outrankedBy, []);
    const left = await b.store.lookup(KEY);
    assert.ok(typeof left === 'object' && left.machine === SELF && left.origin === 'copied');
  });

  it('are resolved by the claim in the query: we yield to the claim that outranks ours', async (t) => {
    const { clock, b, peers, outrankedBy } = await startFleet(t);
    await bind(b, KEY);
    await clock.advance(10_000);
    const result = await peers.ask(KEY, { ownBinding: ownBinding(clock) });
    assert.ok(result.kind === 'owner' && result.machine === B);
    assert.deepEqual(b.conflicts, ['kept']);
    assert.deepEqual(outrankedBy, [{ key: KEY, machine: B }]);
  });

  it('send the query with a claim although the peer has just responded no', async (t) => {
    const { clock, b, peers } = await startFleet(t);
    await peers.ask(KEY);
    await bind(b, KEY);
    await clock.advance(10_000);
    assert.equal((await peers.ask(KEY, { ownBinding: ownBinding(clock) })).kind, 'owner');
  });

  it('never make us yield to a claim that ours outranks, whatever a peer responds', async (t) => {
    const clock = createTestClock();
    const { port } = await startScriptedPeer(t, B, () => ({ ...claim, origin: 'adopted' }));
    const { peers, outrankedBy } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
    assert.deepEqual(await peers.ask(KEY, { ownBinding: ownBinding(clock) }), NONE);
    assert.deepEqual(outrankedBy, []);
  });
});

describe('announcements', () => {
  it('give every peer a copy of our bindings', async (t) => {
    const { clock, b, c, peers } = await startFleet(t);
    peers.announce(ownBinding(clock, { generation: 2 }), TTL_MS);
    for (const { store } of [b, c]) {
      await until(async () => (await store.lookup(KEY)) !== 'absent');
      const copy = await store.lookup(KEY);
      assert.ok(typeof copy === 'object');
      const { machine, origin, generation, expiresAt } = copy;
      const expected = { machine: SELF, origin: 'copied', generation: 2 };
      assert.deepEqual({ machine, origin, generation }, expected);
      assert.equal(expiresAt, clock.now() + TTL_MS);
    }
  });

  it('contain no bindings of other owners', async (t) => {
    const { clock, b, peers } = await startFleet(t);
    peers.announce(ownBinding(clock, { machine: C }), TTL_MS);
    await peers.ask(KEY);
    assert.deepEqual(b.requests, ['/v1/ask']);
  });

  it('are sent in batches, one in flight at a time', async (t) => {
    const { clock, b, peers } = await startFleet(t);
    const open = closeGate(b);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => b.requests.length === 1);
    for (let i = 0; i < 300; i += 1) {
      peers.announce(ownBinding(clock, { key: keyOf(`k${i}`) }), TTL_MS);
    }
    open();
    await until(async () => (await b.store.getMetrics()).total === 301);
    assert.equal(b.requests.length, 3);
  });

  it('that are retracted are not sent', async (t) => {
    const clock = createTestClock();
    const received: SessionKey[] = [];
    let isUp = false;
    const { port } = await listen(t, (request, response) => {
      if (!isUp) return void response.writeHead(503).end();
      void readBody(request).then((text) => {
        received.push(...(parseAnnounce(text)?.bindings.map(({ key }) => key) ?? []));
        response.end(formatResponse({ machine: B, answers: new Map() }));
      });
    });
    const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
    const [kept, gone] = [keyOf('kept'), keyOf('gone')];
    for (const key of [kept, gone]) peers.announce(ownBinding(clock, { key }), TTL_MS);
    await peers.ask(KEY);
    peers.retract(gone);
    isUp = true;
    let queryCount = 0;
    // Pending announcements are sent after the next response.
    await until(async () => {
      await peers.ask(keyOf(`asked-${(queryCount += 1)}`));
      return received.length > 0;
    });
    assert.deepEqual(received, [kept]);
  });

  it('of a key that a peer owns too resolve to one owner, whichever Machine announces first', async (t) => {
    const { clock, b, peers, outrankedBy } = await startFleet(t);
    await bind(b, KEY);
    await clock.advance(1_000);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => outrankedBy.length === 1);
    assert.deepEqual(outrankedBy, [{ key: KEY, machine: B }]);
    const kept = await b.store.lookup(KEY);
    assert.ok(typeof kept === 'object' && kept.machine === B);
  });

  it('of a key that a peer had claimed too are repeated to the others, once', async (t) => {
    const clock = createTestClock();
    let announced = 0;
    const losing = { generation: 1, origin: 'adopted', createdAt: 1_000, ttlMs: 5_000 } as const;
    const { port } = await listen(t, (request, response) => {
      void readBody(request).then((text) => {
        const keys = parseAnnounce(text)?.bindings.map(({ key }) => key) ?? [];
        announced += keys.length;
        const answers = new Map(keys.map((key) => [key, losing]));
        response.end(formatResponse({ machine: B, answers }));
      });
    });
    // Both respond as losers every time.
    const c = await startPeer(t, clock, C);
    await bind(c, KEY);
    const { peers, outrankedBy } = await startQueryingMachine(t, clock, [{ machine: B, port }, c]);
    peers.announce(ownBinding(clock, { generation: 2 }), TTL_MS);
    await until(() => announced === 2 && c.requests.length === 2);
    peers.announce(ownBinding(clock, { key: keyOf('last') }), TTL_MS);
    await until(() => announced === 3 && c.requests.length === 3);
    assert.deepEqual(outrankedBy, []);
    assert.deepEqual(c.conflicts, ['released']);
  });

  it('change nothing when the response names keys that were not announced', async (t) => {
    const clock = createTestClock();
    const mine = { generation: 9, origin: 'learned', createdAt: 1, ttlMs: 1_000 } as const;
    let announced = 0;
    const { port } = await listen(t, (request, response) => {
      void readBody(request).then((text) => {
        announced += parseAnnounce(text)?.bindings.length ?? 0;
        response.end(formatResponse({ machine: B, answers: new Map([[keyOf('two'), mine]]) }));
      });
    });
    const { peers, outrankedBy } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => announced === 1);
    await peers.ask(KEY);
    assert.deepEqual(outrankedBy, []);
  });
});

describe('announcements that a peer cannot receive yet', () => {
  it('are dropped, oldest first, and counted when a peer cannot keep up', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const querying = await startQueryingMachine(t, clock, [b]);
    const open = closeGate(b);
    querying.peers.announce(ownBinding(clock), TTL_MS);
    await until(() => b.requests.length === 1);
    for (let i = 0; i < 1_100; i += 1) {
      querying.peers.announce(ownBinding(clock, { key: keyOf(`k${i}`) }), TTL_MS);
    }
    assert.equal(querying.lost, 1_100 - 1_024);
    open();
    await until(async () => (await b.store.getMetrics()).total === 1_025);
    assert.equal(await b.store.lookup(keyOf('k0')), 'absent');
    assert.notEqual(await b.store.lookup(keyOf('k1099')), 'absent');
  });

  it('to an unresponsive peer reach it once it responds, with the remaining time', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const { peers, lost } = await startQueryingMachine(t, clock, [b]);
    const open = closeGate(b);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => b.requests.length === 1);
    await clock.advance(RESPONSE_DEADLINE_MS);
    peers.announce(ownBinding(clock, { key: keyOf('ended') }), 1);
    open();
    await clock.advance(5_000);
    assert.equal(await peers.sendHeartbeat(B, STATUS), true);
    await until(async () => typeof (await b.store.lookup(KEY)) === 'object');
    const received = await b.store.lookup(KEY);
    assert.ok(
      typeof received === 'object' &&
        received.expiresAt === clock.now() + TTL_MS - RESPONSE_DEADLINE_MS - 5_000,
    );
    assert.equal(await b.store.lookup(keyOf('ended')), 'absent');
    assert.equal(lost, 0);
  });

  it('to a peer that stays unresponsive are kept up to a limit; the oldest are dropped and counted', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const querying = await startQueryingMachine(t, clock, [b]);
    await b.close();
    // Three consecutive failures open the breaker.
    for (let i = 0; i < 3; i += 1) await querying.peers.ask(keyOf(`q${i}`));
    for (let i = 0; i < 20_000; i += 1) {
      querying.peers.announce(ownBinding(clock, { key: keyOf(`k${i}`) }), TTL_MS);
    }
    assert.equal(querying.lost, 20_000 - 16_384);
  });

  it('reach a Machine that was not listed at the time, once it is listed', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    let others: readonly Peer[] = [];
    const { peers } = await startQueryingMachine(t, clock, [], {
      directory: {
        others: () => others,
        peer: (machine) => others.find((peer) => peer.machine === machine),
        status: () => ({ kind: 'ok', readAt: 0 }),
      },
    });
    peers.announce(ownBinding(clock), TTL_MS);
    others = [{ machine: B, host: '127.0.0.1', address: '127.0.0.1', port: b.port }];
    assert.equal(await peers.sendHeartbeat(B, STATUS), true);
    await until(async () => typeof (await b.store.lookup(KEY)) === 'object');
  });

  it('that a peer cannot process now are repeated with its heartbeats, not continuously', async (t) => {
    const clock = createTestClock();
    const store = createStore(clock);
    let isBusy = true;
    const lookup: SessionStore['lookup'] = (key) => (isBusy ? 'unknown' : store.lookup(key));
    const b = await startPeer(t, clock, B, { store: { ...store, lookup } });
    const { peers } = await startQueryingMachine(t, clock, [b]);
    const announcements = (): number => b.requests.filter((path) => path === '/v1/announce').length;
    for (const [i, key] of [KEY, keyOf('two')].entries()) {
      peers.announce(ownBinding(clock, { key }), TTL_MS);
      await until(() => announcements() === i + 1);
    }
    let beats = 0;
    await until(async () => {
      isBusy = beats < 2;
      beats += 1;
      assert.equal(await peers.sendHeartbeat(B, STATUS), true);
      return (await store.getMetrics()).total === 2;
    });
    assert.ok(announcements() <= 2 + 2 * beats, `announced ${announcements()} times`);
  });
});

describe('stopping', () => {
  it('ends queries in flight as inconclusive and leaves no timer and no socket', async (t) => {
    const { clock, b, c, peers, directory } = await startFleet(t);
    const open = closeGate(c);
    peers.announce(ownBinding(clock), TTL_MS);
    const result = peers.ask(KEY);
    await until(() => c.requests.length === 2);
    await Promise.all([peers.stop(), directory.stop()]);
    assert.deepEqual(await result, INCONCLUSIVE);
    open();
    for (const peer of [b, c]) await until(async () => (await peer.connections()) === 0);
    await directory.stop();
    // Only the peers' own directories are left, with one timer each.
    assert.equal(clock.pendingCount(), 2);
  });

  it('makes every later query inconclusive and every announcement a no-op', async (t) => {
    const { clock, b, peers } = await startFleet(t);
    await peers.stop();
    peers.announce(ownBinding(clock), TTL_MS);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
    assert.deepEqual(b.requests, []);
    await peers.stop();
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatResponse, parseAsk } from '../../src/fleet/messages.ts';
import { QUERY_BURST, QUERIES_PER_SECOND } from '../../src/fleet/peers.ts';
import { createTestClock } from '../support/clock.ts';
import { keyOf } from '../support/ids.ts';
import {
  B,
  closeGate,
  RESPONSE_DEADLINE_MS,
  INCONCLUSIVE,
  KEY,
  listen,
  NONE,
  QUESTION_MS,
  readBody,
  startQueryingMachine,
  startFleet,
  until,
} from './support.ts';

describe('queries are batched and cached', () => {
  it('and sent once per key, however many callers wait', async (t) => {
    const { b, peers, outcomes } = await startFleet(t);
    const open = closeGate(b);
    const results = Array.from({ length: 50 }, () => peers.ask(KEY));
    await until(() => b.requests.length === 1);
    results.push(peers.ask(KEY));
    open();
    assert.deepEqual(await Promise.all(results), new Array(51).fill(NONE));
    assert.equal(b.requests.length, 1);
    assert.deepEqual(outcomes, ['none']);
  });

  it('and keys that arrive while a batch is in flight form the next batch', async (t) => {
    const { b, peers } = await startFleet(t);
    const open = closeGate(b);
    const first = peers.ask(KEY);
    await until(() => b.requests.length === 1);
    const rest = Array.from({ length: 300 }, (_, i) => peers.ask(keyOf(`k${i}`)));
    open();
    await Promise.all([first, ...rest]);
    assert.equal(b.requests.length, 3);
  });

  it('and a no is cached for two seconds, for that peer only', async (t) => {
    const { clock, b, c, peers } = await startFleet(t);
    const open = closeGate(c);
    const first = peers.ask(KEY);
    await until(() => b.requests.length === 1 && c.requests.length === 1);
    await clock.advance(QUESTION_MS);
    assert.deepEqual(await first, INCONCLUSIVE);
    open();
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual([b.requests.length, c.requests.length], [1, 2]);
    await clock.advance(2_000);
    await peers.ask(KEY);
    assert.deepEqual([b.requests.length, c.requests.length], [2, 3]);
  });
});

describe('the rate of queries is bounded', () => {
  it('so that a flood of 20,000 generated ids costs a peer a handful of requests', async (t) => {
    const { clock, b, c, peers, outcomes } = await startFleet(t);
    const keys = Array.from({ length: 20_000 }, (_, i) => keyOf(`made-up-${i}`));
    const before = clock.monotonicMs();
    const results = await Promise.all(keys.map((key) => peers.ask(key)));
    assert.equal(clock.monotonicMs(), before);

    const count = (kind: string): number =>
      results.filter((respond) => respond.kind === kind).length;
    assert.equal(count('none'), QUERY_BURST);
    assert.equal(count('inconclusive'), 20_000 - QUERY_BURST);
    assert.equal(outcomes.filter((outcome) => outcome === 'shed').length, 20_000 - QUERY_BURST);
    for (const peer of [b, c]) {
      assert.ok(peer.requests.length <= 4, `${peer.requests.length} requests`);
      assert.equal((await peer.store.getMetrics()).lookups, QUERY_BURST);
      assert.ok((await peer.connections()) <= 2);
    }
  });

  it('so that queries over the limits are inconclusive immediately, before any peer responds', async (t) => {
    const { clock, b, c, peers } = await startFleet(t);
    const opens = [b, c].map(closeGate);
    const flood = Array.from({ length: QUERY_BURST }, (_, i) => peers.ask(keyOf(`k${i}`)));
    assert.deepEqual(await peers.ask(KEY), { kind: 'inconclusive', isShed: true });
    opens.forEach((open) => open());
    await Promise.all(flood);
    await clock.advance(1_000);
    assert.deepEqual(await peers.ask(KEY), NONE);
  });

  it('so that any number of clients of an unresponsive Machine leave half of the queries to new sessions', async (t) => {
    const { peers } = await startFleet(t);
    const clients = Array.from({ length: 20_000 }, (_, i) =>
      peers.ask(keyOf(`known-${i}`), { source: `client ${i}`, hasKnownOwner: true }),
    );
    assert.deepEqual(await peers.ask(KEY, { source: 'somebody' }), NONE);
    await Promise.all(clients);
  });

  it('so that a sustained flood gets only its rate', async (t) => {
    const { clock, b, peers } = await startFleet(t);
    const flood = async (round: string): Promise<void> => {
      await Promise.all(Array.from({ length: 5_000 }, (_, i) => peers.ask(keyOf(`${round}-${i}`))));
    };
    await flood('first');
    for (const round of ['second', 'third']) {
      await clock.advance(1_000);
      await flood(round);
    }
    const expected = QUERY_BURST + 2 * QUERIES_PER_SECOND;
    assert.equal((await b.store.getMetrics()).lookups, expected);
  });
});

describe('queries do not wait for failing peers', () => {
  it('and a failing peer is skipped, retried later, and queried again once it responds', async (t) => {
    const clock = createTestClock();
    let isUp = false;
    let requests = 0;
    const { port } = await listen(t, (request, response) => {
      requests += 1;
      if (!isUp) return void response.writeHead(503).end();
      void readBody(request).then((text) => {
        const keys = parseAsk(text)?.questions.map(({ key }) => key) ?? [];
        const results = new Map(keys.map((key) => [key, 'no' as const]));
        response.end(formatResponse({ machine: B, answers: results }));
      });
    });
    const { peers } = await startQueryingMachine(t, clock, [{ machine: B, port }]);
    for (let i = 0; i < 20; i += 1) await peers.ask(keyOf(`down-${i}`));
    assert.equal(requests, 3);
    await clock.advance(1_000);
    assert.deepEqual(await peers.ask(keyOf('probe')), INCONCLUSIVE);
    assert.deepEqual(await peers.ask(keyOf('left-alone')), INCONCLUSIVE);
    assert.equal(requests, 4);
    isUp = true;
    await clock.advance(2_000);
    assert.deepEqual(await peers.ask(keyOf('probe-again')), NONE);
    assert.deepEqual(await peers.ask(keyOf('back')), NONE);
  });

  it('and a peer that is known to be unresponsive delays no query', async (t) => {
    const { clock, c, peers } = await startFleet(t);
    const open = closeGate(c);
    for (let i = 1; i <= 3; i += 1) {
      const respond = peers.ask(keyOf(`slow-${i}`));
      await until(() => c.requests.length === i);
      await clock.advance(QUESTION_MS);
      assert.deepEqual(await respond, INCONCLUSIVE);
      await clock.advance(RESPONSE_DEADLINE_MS - QUESTION_MS);
    }
    const before = clock.monotonicMs();
    assert.deepEqual(await peers.ask(keyOf('quick')), INCONCLUSIVE);
    assert.equal(clock.monotonicMs(), before);
    open();
  });
});

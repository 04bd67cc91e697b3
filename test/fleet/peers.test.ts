import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Binding, MachineId, SessionKey } from '../../src/affinity/session.ts';
import type { DirectoryStatus } from '../../src/fleet/directory.ts';
import { offDirectory } from '../../src/fleet/directory.ts';
import { formatAnswer, parseAnnounce, parseAsk, type KeyAnswer } from '../../src/fleet/messages.ts';
import { QUESTION_BURST, QUESTIONS_PER_SECOND } from '../../src/fleet/peers.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';
import {
  B,
  C,
  listen,
  readBody,
  SELF,
  startAsker,
  startPeer,
  TTL_MS,
  until,
  type ListeningServer,
  type TestPeer,
} from './support.ts';

const KEY = keyOf('one');
const NONE = { kind: 'none' };
const INCONCLUSIVE = { kind: 'inconclusive' };
const QUESTION_MS = 300;

async function bind(peer: TestPeer, key: SessionKey, generation = 1): Promise<void> {
  const binding = { key, machine: peer.machine, origin: 'learned' as const, ttlMs: TTL_MS };
  await peer.store.upsert({ ...binding, generation });
}

function ownBinding(clock: TestClock, fields: Partial<Binding> = {}): Binding {
  return {
    key: KEY,
    machine: SELF,
    origin: 'learned',
    generation: 1,
    createdAt: clock.now(),
    expiresAt: clock.now() + TTL_MS,
    ...fields,
  };
}

/** Two peers that own nothing. */
async function setUp(t: TestContext) {
  const clock = createTestClock();
  const [b, c] = [await startPeer(t, clock, B), await startPeer(t, clock, C)];
  return { b, c, ...(await startAsker(t, clock, [b, c])) };
}

/** A question that stays unanswered until `open` is called. */
function closeGate(peer: TestPeer): () => void {
  const gate = Promise.withResolvers<undefined>();
  peer.gate = gate.promise;
  return () => {
    peer.gate = undefined;
    gate.resolve(undefined);
  };
}

/** A peer listener that says what the test says. */
function startScriptedPeer(
  t: TestContext,
  machine: MachineId,
  answer: (key: SessionKey) => KeyAnswer,
): Promise<ListeningServer> {
  return listen(t, (request, response) => {
    void readBody(request).then((text) => {
      const { questions } = parseAsk(text) ?? { questions: [] };
      const answers = new Map(questions.map(({ key }) => [key, answer(key)]));
      response.end(formatAnswer({ machine, answers }));
    });
  });
}

describe('asking the peers', () => {
  it('finds the owner, with the generation and the time left', async (t) => {
    const { clock, b, peers, outcomes } = await setUp(t);
    await bind(b, KEY, 3);
    await clock.advance(1_000);
    const owner = { kind: 'owner', machine: B, generation: 3, ttlMs: TTL_MS - 1_000 };
    assert.deepEqual(await peers.ask(KEY), owner);
    assert.deepEqual(outcomes, ['owner']);
  });

  it('is answered none once every peer has said no', async (t) => {
    const { b, c, peers, outcomes } = await setUp(t);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual([b.requests, c.requests], [['/v1/ask'], ['/v1/ask']]);
    assert.deepEqual(outcomes, ['none']);
  });

  it('takes what a peer says of a third Machine for a no: a copy proves nothing', async (t) => {
    const { b, peers } = await setUp(t);
    const copy = { key: KEY, machine: C, origin: 'copied' as const, ttlMs: TTL_MS };
    await b.store.upsert({ ...copy, generation: 1 });
    assert.deepEqual(await peers.ask(KEY), NONE);
  });

  it('ends with the first owner, although another peer stays silent', async (t) => {
    const { b, c, peers } = await setUp(t);
    const open = closeGate(c);
    await bind(b, KEY);
    assert.equal((await peers.ask(KEY)).kind, 'owner');
    open();
  });

  it('is inconclusive when a peer stays silent, after 300 ms', async (t) => {
    const { clock, c, peers } = await setUp(t);
    const open = closeGate(c);
    const answer = peers.ask(KEY);
    await until(() => c.requests.length === 1);
    let isAnswered = false;
    void answer.then(() => (isAnswered = true));
    await clock.advance(QUESTION_MS - 1);
    assert.equal(isAnswered, false);
    await clock.advance(1);
    assert.deepEqual(await answer, INCONCLUSIVE);
    open();
  });

  it('is inconclusive when a peer can not tell', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B, { isReady: () => false });
    const { peers } = await startAsker(t, clock, [b]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when a peer is not there', async (t) => {
    const { c, peers } = await setUp(t);
    await c.close();
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when another Machine answers at the address: it was given away', async (t) => {
    const clock = createTestClock();
    const c = await startPeer(t, clock, C);
    await bind(c, KEY);
    const { peers } = await startAsker(t, clock, [{ machine: B, port: c.port }]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  it('is inconclusive when the peer does not list us yet', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B, { others: [] });
    await bind(b, KEY);
    const { peers } = await startAsker(t, clock, [b]);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
  });

  const junk: [string, number, string][] = [
    ['junk', 200, '{"machine":"bb","answers":'],
    ['nothing', 200, ''],
    ['an answer to something else', 200, `{"machine":"bb","answers":{"${keyOf('two')}":"no"}}`],
    [
      'more than it may',
      200,
      `{"machine":"bb","answers":{"${KEY}":"no"},"x":"${'x'.repeat(70_000)}"}`,
    ],
    ['an error', 500, `{"machine":"bb","answers":{"${KEY}":"no"}}`],
    ['a redirect', 307, ''],
  ];
  for (const [name, status, body] of junk) {
    it(`is inconclusive when a peer answers ${name}`, async (t) => {
      const clock = createTestClock();
      const { port } = await listen(t, (_, response) => response.writeHead(status).end(body));
      const { peers } = await startAsker(t, clock, [{ machine: B, port }]);
      assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
    });
  }

  it('asks again at once when the idle connection had just been closed', async (t) => {
    const clock = createTestClock();
    let requests = 0;
    const { port } = await listen(t, (request, response) => {
      requests += 1;
      if (requests === 2) request.socket.resetAndDestroy();
      else response.end(formatAnswer({ machine: B, answers: new Map([[KEY, 'no']]) }));
    });
    const { peers } = await startAsker(t, clock, [{ machine: B, port }]);
    assert.deepEqual(await peers.ask(KEY), NONE);
    await clock.advance(2_000);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.equal(requests, 3);
  });
});

describe('the directory decides what silence means', () => {
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
    it(`${status.kind} with ${listsPeer ? 'a' : 'no'} peer that says no is ${expected}`, async (t) => {
      const clock = createTestClock();
      const b = await startPeer(t, clock, B);
      const { directory } = await startAsker(t, clock, listsPeer ? [b] : []);
      const { peers } = await startAsker(t, clock, [], {
        directory: { ...directory, status: () => status },
      });
      assert.equal((await peers.ask(KEY)).kind, expected);
    });
  }

  it('off is none: there is nobody to ask', async (t) => {
    const options = { directory: offDirectory };
    const { peers, outcomes } = await startAsker(t, createTestClock(), [], options);
    assert.deepEqual(await peers.ask(KEY), NONE);
    assert.deepEqual(outcomes, []);
  });

  it('failing still finds an owner among those it knew', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    await bind(b, KEY);
    const { directory } = await startAsker(t, clock, [b]);
    const { peers } = await startAsker(t, clock, [], {
      directory: { ...directory, status: () => failing },
    });
    assert.equal((await peers.ask(KEY)).kind, 'owner');
  });

  it('asks Machines that have come and leaves those that have gone', async (t) => {
    const clock = createTestClock();
    const [b, c] = [await startPeer(t, clock, B), await startPeer(t, clock, C)];
    const { directory: before } = await startAsker(t, clock, [b]);
    const { directory: after } = await startAsker(t, clock, [c]);
    let now = before;
    const { peers } = await startAsker(t, clock, [], {
      directory: { others: () => now.others(), peer: (m) => now.peer(m), status: () => ok },
    });
    await peers.ask(KEY);
    now = after;
    await peers.ask(keyOf('two'));
    assert.deepEqual([b.requests.length, c.requests.length], [1, 1]);
    await until(async () => (await b.connections()) === 0);
  });
});

describe('questions are bounded', () => {
  it('and asked once per key, however many ask', async (t) => {
    const { b, peers, outcomes } = await setUp(t);
    const open = closeGate(b);
    const answers = Array.from({ length: 50 }, () => peers.ask(KEY));
    await until(() => b.requests.length === 1);
    answers.push(peers.ask(KEY));
    open();
    assert.deepEqual(await Promise.all(answers), new Array(51).fill(NONE));
    assert.equal(b.requests.length, 1);
    assert.deepEqual(outcomes, ['none']);
  });

  it('and what arrives while a batch is under way is the next one', async (t) => {
    const { b, peers } = await setUp(t);
    const open = closeGate(b);
    const first = peers.ask(KEY);
    await until(() => b.requests.length === 1);
    const rest = Array.from({ length: 300 }, (_, i) => peers.ask(keyOf(`k${i}`)));
    open();
    await Promise.all([first, ...rest]);
    assert.equal(b.requests.length, 3);
  });

  it('and a no is remembered for two seconds, of that peer alone', async (t) => {
    const { clock, b, c, peers } = await setUp(t);
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

  it('so that a flood of 20,000 made-up ids costs a peer a handful of requests', async (t) => {
    const { clock, b, c, peers, outcomes } = await setUp(t);
    const keys = Array.from({ length: 20_000 }, (_, i) => keyOf(`made-up-${i}`));
    const before = clock.monotonicMs();
    const answers = await Promise.all(keys.map((key) => peers.ask(key)));
    assert.equal(clock.monotonicMs(), before);

    const count = (kind: string): number => answers.filter((answer) => answer.kind === kind).length;
    assert.equal(count('none'), QUESTION_BURST);
    assert.equal(count('inconclusive'), 20_000 - QUESTION_BURST);
    assert.equal(outcomes.filter((outcome) => outcome === 'shed').length, 20_000 - QUESTION_BURST);
    for (const peer of [b, c]) {
      assert.ok(peer.requests.length <= 4, `${peer.requests.length} requests`);
      assert.equal((await peer.store.getMetrics()).lookups, QUESTION_BURST);
      assert.ok((await peer.connections()) <= 2);
    }
  });

  it('so that what is beyond the bounds is inconclusive at once, before any peer has answered', async (t) => {
    const { clock, b, c, peers } = await setUp(t);
    const opens = [b, c].map(closeGate);
    const flood = Array.from({ length: QUESTION_BURST }, (_, i) => peers.ask(keyOf(`k${i}`)));
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
    opens.forEach((open) => open());
    await Promise.all(flood);
    await clock.advance(1_000);
    assert.deepEqual(await peers.ask(KEY), NONE);
  });

  it('so that a flood that lasts gets its rate and no more', async (t) => {
    const { clock, b, peers } = await setUp(t);
    const flood = async (round: string): Promise<void> => {
      await Promise.all(Array.from({ length: 5_000 }, (_, i) => peers.ask(keyOf(`${round}-${i}`))));
    };
    await flood('first');
    for (const round of ['second', 'third']) {
      await clock.advance(1_000);
      await flood(round);
    }
    const expected = QUESTION_BURST + 2 * QUESTIONS_PER_SECOND;
    assert.equal((await b.store.getMetrics()).lookups, expected);
  });

  it('and a peer that keeps failing is left alone, tried again later, and asked again once it answers', async (t) => {
    const clock = createTestClock();
    let isUp = false;
    let requests = 0;
    const { port } = await listen(t, (request, response) => {
      requests += 1;
      if (!isUp) return void response.writeHead(503).end();
      void readBody(request).then((text) => {
        const keys = parseAsk(text)?.questions.map(({ key }) => key) ?? [];
        const answers = new Map(keys.map((key) => [key, 'no' as const]));
        response.end(formatAnswer({ machine: B, answers }));
      });
    });
    const { peers } = await startAsker(t, clock, [{ machine: B, port }]);
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

  it('and a silent peer delays no question once it is known to be silent', async (t) => {
    const { clock, c, peers } = await setUp(t);
    const open = closeGate(c);
    for (let i = 1; i <= 3; i += 1) {
      const answer = peers.ask(keyOf(`slow-${i}`));
      await until(() => c.requests.length === i);
      await clock.advance(QUESTION_MS);
      assert.deepEqual(await answer, INCONCLUSIVE);
    }
    const before = clock.monotonicMs();
    assert.deepEqual(await peers.ask(keyOf('quick')), INCONCLUSIVE);
    assert.equal(clock.monotonicMs(), before);
    open();
  });
});

describe('two owners of one key', () => {
  const claim = { generation: 1, origin: 'learned', createdAt: 1_000, ttlMs: 5_000 } as const;

  it('are told apart by rank for those who ask while an answer is still under way', async (t) => {
    const clock = createTestClock();
    const b = await startScriptedPeer(t, B, () => ({ ...claim, generation: 1 }));
    const slow = Promise.withResolvers<undefined>();
    const c = await startPeer(t, clock, C);
    c.gate = slow.promise;
    await bind(c, KEY, 2);
    const d = await startPeer(t, clock, machineId('dd'));
    const open = closeGate(d);
    const { peers } = await startAsker(t, clock, [{ machine: B, port: b.port }, c, d]);
    const first = await peers.ask(KEY);
    assert.ok(first.kind === 'owner' && first.machine === B);
    slow.resolve(undefined);
    await until(async () => {
      const later = await peers.ask(KEY);
      return later.kind === 'owner' && later.machine === C;
    });
    open();
  });

  it('settle it by the claim in the question: the peer yields to the one that outranks it', async (t) => {
    const { clock, b, peers, outrankedBy } = await setUp(t);
    const ours = ownBinding(clock);
    await clock.advance(1_000);
    await bind(b, KEY);
    assert.deepEqual(await peers.ask(KEY, ours), NONE);
    assert.deepEqual(b.conflicts, ['yielded']);
    assert.deepEqual(outrankedBy, []);
    const left = await b.store.lookup(KEY);
    assert.ok(typeof left === 'object' && left.machine === SELF && left.origin === 'copied');
  });

  it('settle it by the claim in the question: we yield to the one that outranks us', async (t) => {
    const { clock, b, peers, outrankedBy } = await setUp(t);
    await bind(b, KEY);
    await clock.advance(1_000);
    const answer = await peers.ask(KEY, ownBinding(clock));
    assert.ok(answer.kind === 'owner' && answer.machine === B);
    assert.deepEqual(b.conflicts, ['kept']);
    assert.deepEqual(outrankedBy, [{ key: KEY, machine: B }]);
  });

  it('put the question with a claim although the peer has just said no', async (t) => {
    const { clock, b, peers } = await setUp(t);
    await peers.ask(KEY);
    await bind(b, KEY);
    await clock.advance(1_000);
    assert.equal((await peers.ask(KEY, ownBinding(clock))).kind, 'owner');
  });

  it('never make us yield to a claim that ours outranks, whatever a peer answers', async (t) => {
    const clock = createTestClock();
    const { port } = await startScriptedPeer(t, B, () => ({ ...claim, origin: 'adopted' }));
    const { peers, outrankedBy } = await startAsker(t, clock, [{ machine: B, port }]);
    assert.deepEqual(await peers.ask(KEY, ownBinding(clock)), NONE);
    assert.deepEqual(outrankedBy, []);
  });
});

describe('announcements', () => {
  it('tell every peer what we own, as a copy', async (t) => {
    const { clock, b, c, peers } = await setUp(t);
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

  it('say nothing of what others own', async (t) => {
    const { clock, b, peers } = await setUp(t);
    peers.announce(ownBinding(clock, { machine: C }), TTL_MS);
    await peers.ask(KEY);
    assert.deepEqual(b.requests, ['/v1/ask']);
  });

  it('go out in batches, one under way at a time', async (t) => {
    const { clock, b, peers } = await setUp(t);
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

  it('are dropped from the oldest on, and counted, where a peer can not keep up', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const asker = await startAsker(t, clock, [b]);
    const open = closeGate(b);
    asker.peers.announce(ownBinding(clock), TTL_MS);
    await until(() => b.requests.length === 1);
    for (let i = 0; i < 1_100; i += 1) {
      asker.peers.announce(ownBinding(clock, { key: keyOf(`k${i}`) }), TTL_MS);
    }
    assert.equal(asker.lost, 1_100 - 1_024);
    open();
    await until(async () => (await b.store.getMetrics()).total === 1_025);
    assert.equal(await b.store.lookup(keyOf('k0')), 'absent');
    assert.notEqual(await b.store.lookup(keyOf('k1099')), 'absent');
  });

  it('that a peer does not take are counted as lost', async (t) => {
    const clock = createTestClock();
    const b = await startPeer(t, clock, B);
    const asker = await startAsker(t, clock, [b]);
    await b.close();
    asker.peers.announce(ownBinding(clock), TTL_MS);
    await until(() => asker.lost === 1);
  });

  it('of what a peer owns too end in one owner, whoever announces first', async (t) => {
    const { clock, b, peers, outrankedBy } = await setUp(t);
    await bind(b, KEY);
    await clock.advance(1_000);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => outrankedBy.length === 1);
    assert.deepEqual(outrankedBy, [{ key: KEY, machine: B }]);
    const kept = await b.store.lookup(KEY);
    assert.ok(typeof kept === 'object' && kept.machine === B);
  });

  it('that are answered for keys not announced change nothing', async (t) => {
    const clock = createTestClock();
    const mine = { generation: 9, origin: 'learned', createdAt: 1, ttlMs: 1_000 } as const;
    let announced = 0;
    const { port } = await listen(t, (request, response) => {
      void readBody(request).then((text) => {
        announced += parseAnnounce(text)?.bindings.length ?? 0;
        response.end(formatAnswer({ machine: B, answers: new Map([[keyOf('two'), mine]]) }));
      });
    });
    const { peers, outrankedBy } = await startAsker(t, clock, [{ machine: B, port }]);
    peers.announce(ownBinding(clock), TTL_MS);
    await until(() => announced === 1);
    await peers.ask(KEY);
    assert.deepEqual(outrankedBy, []);
  });
});

describe('stopping', () => {
  it('ends questions under way as inconclusive and leaves no timer and no socket', async (t) => {
    const { clock, b, c, peers, directory } = await setUp(t);
    const open = closeGate(c);
    peers.announce(ownBinding(clock), TTL_MS);
    const answer = peers.ask(KEY);
    await until(() => c.requests.length === 2);
    await Promise.all([peers.stop(), directory.stop()]);
    assert.deepEqual(await answer, INCONCLUSIVE);
    open();
    for (const peer of [b, c]) await until(async () => (await peer.connections()) === 0);
    await directory.stop();
    // What is left are the peers' own directories, one timer each.
    assert.equal(clock.pendingCount(), 2);
  });

  it('makes every later question inconclusive and every announcement void', async (t) => {
    const { clock, b, peers } = await setUp(t);
    await peers.stop();
    peers.announce(ownBinding(clock), TTL_MS);
    assert.deepEqual(await peers.ask(KEY), INCONCLUSIVE);
    assert.deepEqual(b.requests, []);
    await peers.stop();
  });
});

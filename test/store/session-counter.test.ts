/** How a counter handles the events that it receives. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Binding } from '../../src/session.ts';
import { createSessionCounter, type SessionCounter } from '../../src/store/session-counter.ts';
import { createTestClock, type TestClock } from '../support/clock.ts';
import { keyOf, machineId } from '../support/ids.ts';

const SELF = machineId('a1');
const OTHER = machineId('b2');
const TTL_MS = 600_000;
/** A six-hundredth of the TTL. */
const SLOT_MS = 1_000;
const LIMIT = 3;

interface Setting {
  readonly counter: SessionCounter;
  readonly clock: TestClock;
  readonly binding: (name: string, ttlMs?: number, machine?: typeof SELF) => Binding;
}

function setUp(maxAgeMs = 0): Setting {
  const clock = createTestClock();
  const counter = createSessionCounter({
    self: SELF,
    clock,
    limit: LIMIT,
    ttlMs: TTL_MS,
    maxAgeMs,
  });
  return {
    counter,
    clock,
    binding: (name, ttlMs = TTL_MS, machine = SELF) => {
      const now = clock.now();
      const made = { origin: 'learned', generation: 1, createdAt: now } as const;
      return { key: keyOf(name), machine, ...made, expiresAt: now + ttlMs };
    },
  };
}

/**
 * Events as words: `+a` is bound here, `>a` elsewhere, `-a` ends, `~a` is extended, `.a` ends in a
 * minute.
 */
async function happen({ counter, clock, binding }: Setting, text: string): Promise<void> {
  for (const word of text.split(' ').filter(Boolean)) {
    const name = word.slice(1);
    const key = keyOf(name);
    if (word.startsWith('+')) counter.note(binding(name));
    else if (word.startsWith('>')) counter.note(binding(name, TTL_MS, OTHER));
    else if (word.startsWith('-')) counter.forget(key);
    else if (word.startsWith('~')) counter.slide(key, TTL_MS);
    else if (word.startsWith('.')) counter.shorten(key, 60_000);
    else await clock.advance(Number(word.replace('s', '')) * 1_000);
  }
}

describe('the count', () => {
  const rows: readonly (readonly [claim: string, happened: string, count: number])[] = [
    ['is 0 at first', '', 0],
    ['includes each session once', '+a +b +a', 2],
    ['excludes sessions of another Machine', '+a >b', 1],
    ['excludes a session that another Machine has taken over', '+a +b >a', 1],
    ['excludes an ended session, once', '+a +b -a -a', 1],
    ['ignores the end of an unknown session', '+a -x ~x .x', 1],
    ['includes a session that is about to expire', '+a 599s', 1],
    ['excludes an expired session, without any lookup', '+a 601s', 0],
    ['includes a session that was used meanwhile', '+a +b 400s ~a 201s', 1],
    ['excludes a session that was used, after it expires', '+a 400s ~a 601s', 0],
    ['excludes a session that ends with its stream', '+a +b .a 61s', 1],
    ['includes a session that ends with its stream and is used then', '+a .a 30s ~a 61s', 1],
    ['does not extend a session that would end earlier anyway', '+a 590s .a 11s', 0],
    ['includes a session that was bound again after it had expired', '+a 601s +a', 1],
    ['includes a session that came back from another Machine', '+a >a +a', 1],
  ];
  for (const [claim, happened, count] of rows) {
    test(claim, async () => {
      const setting = setUp();
      await happen(setting, happened);
      assert.equal(setting.counter.count(), count);
    });
  }

  test('does not extend a session past its maximum age', async () => {
    const setting = setUp(700_000);
    await happen(setting, '+a 400s ~a 299s');
    assert.equal(setting.counter.count(), 1);
    await happen(setting, '2s');
    assert.equal(setting.counter.count(), 0);
  });

  test('excludes a session that has already expired', () => {
    const { counter, binding } = setUp();
    counter.note(binding('a'));
    counter.note(binding('a', 0));
    counter.note(binding('b', -1));
    assert.equal(counter.count(), 0);
  });

  test('is full at its limit, and not below', async () => {
    const setting = setUp();
    for (const [happened, isFull] of [
      ['+a +b', false],
      ['+c', true],
      ['+d', true],
      ['-a', true],
      ['-b', false],
    ] as const) {
      await happen(setting, happened);
      assert.equal(setting.counter.isFull(), isFull, happened);
    }
  });

  test('holds at most twice its limit', async () => {
    const setting = setUp();
    await happen(setting, '+a +b +c +d +e +f +g +h');
    assert.equal(setting.counter.count(), 2 * LIMIT);
    await happen(setting, '-a -b +g +h +i');
    assert.equal(setting.counter.count(), 2 * LIMIT);
  });
});

describe('a resync', () => {
  test('finds earlier sessions, and drops those that no longer exist', async () => {
    const setting = setUp();
    await happen(setting, '+a +b');
    const end = setting.counter.beginResync();
    await happen(setting, '+b +c >x');
    assert.equal(setting.counter.count(), 3);
    end();
    assert.equal(setting.counter.count(), 2);
  });

  test('keeps sessions that arrived during it', async () => {
    const setting = setUp();
    const end = setting.counter.beginResync();
    await happen(setting, '+new');
    end();
    assert.equal(setting.counter.count(), 1);
  });

  test('that was aborted drops nothing', async () => {
    const setting = setUp();
    await happen(setting, '+a');
    setting.counter.beginResync();
    assert.equal(setting.counter.count(), 1);
    const end = setting.counter.beginResync();
    await happen(setting, '+a');
    end();
    assert.equal(setting.counter.count(), 1);
  });
});

test('for any events, the count is that of the live sessions, within a slot', async () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constantFrom('note', 'other', 'slide', 'shorten', 'forget'),
      name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
      ttlMs: fc.integer({ min: 1, max: TTL_MS }),
    }),
    fc.record({ kind: fc.constant('pass'), ms: fc.integer({ min: 1, max: 200_000 }) }),
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const { counter, clock, binding } = setUp();
    const ends = new Map<string, number>();
    const isAlive = (name: string): boolean => (ends.get(name) ?? 0) > clock.now();
    for (const one of steps) {
      if ('ms' in one) {
        await clock.advance(one.ms);
        // The counter drops a session at most a slot late.
        await clock.advance(SLOT_MS - (clock.now() % SLOT_MS));
      } else {
        const { kind, name, ttlMs } = one;
        const key = keyOf(name);
        const until = clock.now() + ttlMs;
        if (kind === 'note') {
          counter.note(binding(name, ttlMs));
          ends.set(name, until);
        } else if (kind === 'other' || kind === 'forget') {
          if (kind === 'other') counter.note(binding(name, ttlMs, OTHER));
          else counter.forget(key);
          ends.delete(name);
        } else if (isAlive(name)) {
          // The store reports this only for a session that exists.
          if (kind === 'slide') counter.slide(key, ttlMs);
          else counter.shorten(key, ttlMs);
          const now = ends.get(name) ?? 0;
          ends.set(name, kind === 'slide' ? Math.max(now, until) : Math.min(now, until));
        }
      }
      const atLeast = [...ends.keys()].filter(isAlive).length;
      const atMost = [...ends.values()].filter((end) => end + SLOT_MS > clock.now()).length;
      const count = counter.count();
      assert.ok(count >= atLeast && count <= atMost, `${atLeast} <= ${count} <= ${atMost}`);
    }
  });
  await fc.assert(property, { numRuns: 300 });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Binding } from '../../src/session.ts';
import { applyWrite, type Write } from '../../src/store/rules.ts';
import { keyOf, machineId } from '../support/ids.ts';

const key = keyOf('k');
const machines = fc.constantFrom(machineId('a1'), machineId('b2'), machineId('c3'));
const origins = fc.constantFrom('learned' as const, 'adopted' as const, 'copied' as const);
const moments = fc.integer({ min: 0, max: 1_000 });
const generations = fc.integer({ min: 1, max: 3 });
const ttls = fc.integer({ min: 0, max: 1_000 });

const bindings: fc.Arbitrary<Binding> = fc
  .record({
    machine: machines,
    origin: origins,
    generation: generations,
    createdAt: moments,
    age: ttls,
  })
  .map(({ age, ...rest }) => ({ ...rest, key, expiresAt: rest.createdAt + age }));

const writes: fc.Arbitrary<Write> = fc.oneof(
  fc.record({
    kind: fc.constant('claim' as const),
    ...{ key: fc.constant(key), now: moments, machine: machines, origin: origins, ttlMs: ttls },
  }),
  fc.record({
    kind: fc.constant('upsert' as const),
    ...{ key: fc.constant(key), now: moments, machine: machines, origin: origins, ttlMs: ttls },
    generation: generations,
    createdAt: fc.option(moments, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant('rebind' as const),
    ...{ key: fc.constant(key), now: moments, from: machines, to: machines },
    ...{ origin: origins, ttlMs: ttls },
  }),
  fc.record({
    kind: fc.constantFrom('touch' as const, 'expireWithin' as const),
    ...{ key: fc.constant(key), now: moments, ttlMs: ttls },
  }),
  fc.record({
    kind: fc.constant('delete' as const),
    ...{ key: fc.constant(key), now: moments, ifMachine: fc.option(machines, { nil: undefined }) },
  }),
);
const found = fc.option(bindings, { nil: undefined });

test('applying a write twice has the same result as applying it once', () => {
  fc.assert(
    fc.property(found, writes, (before, write) => {
      const once = applyWrite(write, before, 0).after;
      const twice = applyWrite(write, once, 0).after;
      // An expired binding is equivalent to an absent one.
      const alive = (binding: Binding | undefined) =>
        binding && binding.expiresAt > write.now ? binding : undefined;
      assert.deepEqual(alive(twice), alive(once));
    }),
    { numRuns: 5_000 },
  );
});

test('no write lets a binding outlive its maximum age', () => {
  fc.assert(
    fc.property(found, writes, fc.integer({ min: 1, max: 500 }), (before, write, maxAgeMs) => {
      const fits = before === undefined || before.expiresAt <= before.createdAt + maxAgeMs;
      fc.pre(fits);
      const { after } = applyWrite(write, before, maxAgeMs);
      assert.ok(after === undefined || after.expiresAt <= after.createdAt + maxAgeMs);
    }),
    { numRuns: 5_000 },
  );
});

test('an owner changes only by rebind, by upsert, or after expiry, and a rebind raises the generation', () => {
  fc.assert(
    fc.property(bindings, writes, (before, write) => {
      fc.pre(before.expiresAt > write.now);
      const { after } = applyWrite(write, before, 0);
      if (after === undefined) {
        assert.equal(write.kind, 'delete');
        return;
      }
      if (after.machine === before.machine) return;
      assert.ok(write.kind === 'rebind' || write.kind === 'upsert');
      if (write.kind === 'rebind') assert.equal(after.generation, before.generation + 1);
      else assert.ok(after.generation >= before.generation);
    }),
    { numRuns: 5_000 },
  );
});

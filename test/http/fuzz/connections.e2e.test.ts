/**
 * Many concurrent clients that pipeline, disconnect, read slowly and half-close, with an app that
 * responds early, late, in pieces, too much or not at all. Every request gets one response or one closed
 * connection, every byte reaches its receiver, and no resource is left.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BodyFilter, PipeOwner } from '../../../src/http/pipe-owner.ts';
import { until } from '../../e2e/support/until.ts';
import { watchResources } from '../../support/resources.ts';
import { casesOf, FUZZ_SEED } from './campaign.ts';
import { Chance } from './chance.ts';
import { startForwarder } from './forwarder.ts';
import { createScript, type OwnerPlan } from './script.ts';
import { startScriptApp } from './script-app.ts';
import { runScript } from './script-client.ts';
import { ScriptWorld } from './script-world.ts';

/** Number of scripts in each of the two runs. */
const SHARE = 0.02;
/** Concurrent scripts. */
const PARALLEL = 40;
/** The number of one script to run alone, for debugging. */
const ONLY = process.env.FUZZ_SCRIPT;

test('every request gets one response or one closed connection, and no resource is left', (t) =>
  runScripts(t, false));

test('every request gets its response if the app keeps its connections open', (t) =>
  runScripts(t, true));

async function runScripts(t: TestContext, isTame: boolean): Promise<void> {
  const watch = watchResources(t);
  const world = new ScriptWorld();
  const appPort = await startScriptApp(t, world);
  const forwarder = await startForwarder(t, {
    appPort,
    hooks: (request) => hooksOf(world.planOf(request.head.target.slice(1))?.owner),
  });
  const numbers =
    ONLY === undefined ? Array.from({ length: casesOf(SHARE) }, (_, i) => i) : [Number(ONLY)];
  t.diagnostic(`FUZZ_SEED=${FUZZ_SEED}, ${numbers.length} scripts`);
  const runNext = async (): Promise<void> => {
    for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
      const script = createScript(number, isTame, new Chance(FUZZ_SEED, number));
      world.add(script);
      await runScript(script, forwarder.port, world);
      if (world.findings.length > 0) return;
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, runNext));
  assert.deepEqual(world.findings, []);

  await until(() => {
    const left = forwarder.startedCount() - forwarder.endings.length;
    return left > 0 || forwarder.listener.busyCount() > 0 ? [`the end of ${left} requests`] : [];
  });
  assert.equal(forwarder.endings.length, forwarder.startedCount());
  assert.deepEqual(forwarder.faults, []);
  await forwarder.close();
  assert.equal(forwarder.pool.connectionCount, 0);
  assert.equal(forwarder.sweep.size, 0);
  assert.equal(forwarder.budget.heldBytes, 0);
  t.diagnostic(JSON.stringify(countOf(forwarder.endings)));
  // The server of the app exists until the test ends.
  await until(() => watch.left().filter((line) => line.startsWith('socket')));
}

function hooksOf(plan: OwnerPlan | undefined): Partial<PipeOwner> {
  if (!plan) return {};
  const inspector = plan.inspects === 'nothing' ? {} : { inspector: inspectorOf(plan) };
  return {
    onResponse: ({ rawHeaders }) => {
      const passage = { rawHeaders, ...inspector };
      return plan.holdsHead ? nextTurn(passage) : passage;
    },
    onUpgradeResponse: ({ rawHeaders }) =>
      plan.holdsHead ? nextTurn({ rawHeaders }) : { rawHeaders },
  };
}

/** Passes everything, and stops inspecting at some point. */
function inspectorOf({ inspects }: OwnerPlan): BodyFilter {
  let count = 0;
  return {
    push: (bytes) => {
      count += 1;
      const until = inspects === 'holding' && count % 2 === 1 ? nextTurn() : undefined;
      return { out: bytes, until, isDone: count === 4 };
    },
    end: () => ({
      out: undefined,
      until: inspects === 'holding' ? nextTurn() : undefined,
      isDone: true,
    }),
  };
}

function countOf(endings: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const ending of endings) counts[ending] = (counts[ending] ?? 0) + 1;
  return counts;
}

/** Browsers of an app without session ids: the sidecars' own cookie keeps each on its Machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { openBrowser, type Browser } from './support/browser.ts';
import { startFleet } from './support/fleet.ts';
import type { Target } from './support/target.ts';

/** A test that hangs ends, and stops its Machines. */
const TIMEOUT_MS = 400_000;
const BROWSERS = 20;
const VISITS = 5;

const VisitResponse = z.object({
  machine: z.string(),
  count: z.number(),
  cookie: z.string().optional(),
});

interface Visitor {
  readonly browser: Browser;
  readonly name: string;
  readonly machine: string;
}

test('browsers stay with their Machine:', { timeout: TIMEOUT_MS }, async (t) => {
  const env = { AFFINITY_COOKIE: 'aff', SESSION_PROTOCOLS: 'mcp' };
  const fleet = await startFleet(t, { hints: true, env });
  const { target, ledger } = fleet;
  let visitors: readonly Visitor[] = [];

  await t.test('20 of them make repeated visits', async () => {
    visitors = await Promise.all(
      Array.from({ length: BROWSERS }, (_, number) => openVisit(target, `visitor-${number}`)),
    );
    assert.equal(new Set(visitors.map(({ machine }) => machine)).size, fleet.machines.length);
    await Promise.all(visitors.map(visitOften));
  });
  await t.test(
    'those of a stopped Machine are served by other Machines, with a new cookie',
    async () => {
      const [stopped] = fleet.machines;
      await stopped?.destroy();
      const homeless = visitors.filter(({ machine }) => machine === stopped?.id);
      const rehomed = await Promise.all(
        homeless.map(async ({ browser, name }) => {
          const { machine, count } = await visit(browser, name);
          assert.notEqual(machine, stopped?.id);
          assert.equal(count, 1);
          return { browser, name, machine };
        }),
      );
      await Promise.all(rehomed.map(visitOften));
    },
  );
  await t.test('no call takes more than one replay or one forward', async () => {
    // The last lines of the stopped Machine are lost with it.
    await fleet.simulation.close();
    assert.deepEqual(ledger.faults('some-lost'), []);
  });
});

async function openVisit(target: Target, name: string): Promise<Visitor> {
  const browser = openBrowser(target);
  const { machine, count } = await visit(browser, name);
  assert.equal(count, 1);
  return { browser, name, machine };
}

async function visitOften({ browser, name, machine }: Visitor): Promise<void> {
  for (let count = 2; count <= VISITS; count += 1) {
    const response = await visit(browser, name);
    assert.deepEqual(response, { machine, count });
    assert.match(browser.cookies.get('aff') ?? '', new RegExp(`^${machine}\\.`));
  }
}

async function visit(browser: Browser, name: string): Promise<{ machine: string; count: number }> {
  const response = await browser.visit(`/visits?name=${name}`);
  const { machine, count, cookie = '' } = VisitResponse.parse(await response.json());
  assert.equal(cookie, '', 'the app does not receive the cookie');
  return { machine, count };
}

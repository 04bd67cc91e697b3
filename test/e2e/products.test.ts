/**
 * Real products behind an edge that does not support affinity, with no setting that names them. The
 * table of their results is `src/docs/products.md`; `PRODUCTS=write` writes it, and
 * `PRODUCTS=NAME,NAME` runs these only.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PRODUCTS } from './products/catalogue.ts';
import { readTable, tableOf, writeTable } from './products/page.ts';
import type { Product } from './products/product.ts';
import { runProducts } from './products/run-products.ts';
import { startFleet } from './support/fleet.ts';

/** A test that hangs ends, and stops its Machines. */
const LONG = { timeout: 400_000 };
const APP = fileURLToPath(new URL('products/app.ts', import.meta.url));

const wanted = process.env.PRODUCTS;
const isPartial = wanted !== undefined && wanted !== 'write';
const selected = PRODUCTS.filter(({ name }) => !isPartial || wanted.split(',').includes(name));
const withoutSetting = selected.filter(({ setting }) => setting === 'none');
const withSetting = selected.filter(({ setting }) => setting !== 'none');

type Results = Map<string, string>;

test('sessions of all products stay with their Machine:', { timeout: 1_600_000 }, async (t) => {
  const withHints: Results = new Map();
  const withoutHints: Results = new Map();
  for (const hints of [true, false]) {
    const label = `hints ${hints ? 'on' : 'off'}`;
    const results = hints ? withHints : withoutHints;
    await t.test(`without any setting, ${label}`, LONG, (each) =>
      testProducts(each, {
        products: withoutSetting,
        protocols: undefined,
        hints,
        results,
      }),
    );
    await t.test(`with their presets in the setting, ${label}`, LONG, (each) =>
      testProducts(each, { products: withSetting, protocols: joined(withSetting), hints, results }),
    );
  }
  await t.test(
    'the table in the documentation has these results',
    { skip: isPartial },
    async () => {
      const rows = PRODUCTS.map((product) => ({
        product,
        withHints: withHints.get(product.name) ?? 'not run',
        withoutHints: withoutHints.get(product.name) ?? 'not run',
      }));
      const table = await tableOf(rows);
      if (wanted === 'write') await writeTable(table);
      assert.equal(await readTable(), table, 'PRODUCTS=write writes it');
    },
  );
});

interface Plan {
  readonly products: readonly Product[];
  /** `SESSION_PROTOCOLS`; undefined: not set. */
  readonly protocols: string | undefined;
  readonly hints: boolean;
  readonly results: Results;
}

async function testProducts(
  t: TestContext,
  { products, protocols, hints, results }: Plan,
): Promise<void> {
  if (products.length === 0) return;
  const fleet = await startFleet(t, {
    hints,
    appCommand: [process.execPath, APP],
    env: { SESSION_PROTOCOLS: protocols },
  });
  const [machine] = fleet.machines;
  assert.ok(machine);
  const outcomes = await runProducts(products, fleet.target, machine);
  for (const { product, result, error } of outcomes) {
    results.set(product, result);
    if (error !== undefined) t.diagnostic(`${product}: ${stackOf(error)}`);
  }
  await fleet.close();
  assert.deepEqual(fleet.ledger.faults(), []);
}

/** Every preset that one of them needs. */
function joined(products: readonly Product[]): string {
  return [...new Set(products.flatMap(({ setting }) => setting.split(',')))].join(',');
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

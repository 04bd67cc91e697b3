/** The dashboard and the alert rules name what exists, and nothing is missing. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { z } from 'zod';
import { SETTING_NAMES } from '../../src/config/settings.ts';
import { STATUS_CLASSES } from '../../src/observability/metrics.ts';
import { readAlerts, readDashboard } from '../../src/observability/monitoring-files.ts';
import { openMetrics } from '../support/metrics.ts';
import { parseAlerts, parseDashboard, queriesOf, type Panel } from './monitoring.ts';

/** Metrics that no panel shows, and why. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  nodejs_heap_size_total_bytes: 'the heap in use and the resident memory say more',
};

/** Every metric of the product, as Prometheus reads them. */
async function metricNames(t: TestContext): Promise<ReadonlySet<string>> {
  const metrics = openMetrics(t);
  metrics.ownSessions(() => 1);
  const text = await metrics.render();
  return new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name));
}

/** Without the endings of the series of a histogram. */
function namedIn(text: string): readonly string[] {
  const found = text.match(/\b(?:fly_affinity|nodejs|process)_[a-z_]+/g) ?? [];
  return [...new Set(found.map((name) => name.replace(/_(bucket|sum|count)$/, '')))];
}

for (const [what, read] of [
  ['the dashboard names', readDashboard],
  ['the alert rules name', readAlerts],
] as const) {
  test(`every metric that ${what} exists`, async (t) => {
    const names = await metricNames(t);
    const named = namedIn(read());
    assert.ok(named.length > 10);
    assert.deepEqual(
      named.filter((name) => !names.has(name)),
      [],
    );
  });
}

test('every metric is on the dashboard, or is left out for a reason', async (t) => {
  const shown = new Set(queriesOf(parseDashboard().panels).flatMap(({ expr }) => namedIn(expr)));
  const names = [...(await metricNames(t))];
  assert.deepEqual(
    names.filter((name) => !shown.has(name)),
    Object.keys(LEFT_OUT),
  );
});

test('each panel has a title of its own, a description, a unit, and room', () => {
  const { panels } = parseDashboard();
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
  for (const { type, title, description, fieldConfig } of panels) {
    if (type === 'row') continue;
    assert.match(description ?? '', /\.$/, title);
    assert.ok(fieldConfig?.defaults.unit, title);
  }
  const overlapping = panels.filter((panel, index) =>
    panels.slice(index + 1).some((other) => doOverlap(panel, other)),
  );
  assert.deepEqual(overlapping, []);
});

function doOverlap({ gridPos: one }: Panel, { gridPos: other }: Panel): boolean {
  const isBeside = one.x + one.w <= other.x || other.x + other.w <= one.x;
  return !isBeside && one.y < other.y + other.h && other.y < one.y + one.h;
}

test('each query is about the chosen app, regions and Machines, with the labels of Fly.io', () => {
  const { panels, templating } = parseDashboard();
  const names = templating.list.map(({ name }) => name);
  assert.deepEqual(names, ['datasource', 'app', 'region', 'instance']);
  const chosen = 'app="$app", region=~"$region", instance=~"$instance"';
  for (const { title, expr } of queriesOf(panels)) {
    const selectors = expr.match(/\b(?:fly_affinity|nodejs|process)_[a-z_]+\{[^}]*\}/g) ?? [];
    assert.equal(selectors.length, expr.split(/(?:fly_affinity|nodejs|process)_/).length - 1, expr);
    for (const selector of selectors) assert.ok(selector.includes(chosen), `${title}: ${expr}`);
  }
});

test('a zero in place of no series has the label that the legend shows', () => {
  const queries = queriesOf(parseDashboard().panels).filter(
    ({ expr, legendLabels }) => legendLabels.length > 0 && expr.includes('vector(0)'),
  );
  assert.ok(queries.length > 3);
  for (const { title, expr, legendLabels } of queries)
    for (const label of legendLabels)
      assert.ok(expr.endsWith(`label_replace(vector(0), "${label}", "none", "", "")`), title);
});

test('a status has the same colour in each panel', () => {
  const [first, ...others] = queriesOf(parseDashboard().panels)
    .filter(({ legendLabels }) => legendLabels.includes('status'))
    .map(({ title }) => panelNamed(title).fieldConfig?.overrides);
  assert.ok(first && others.length > 0);
  const colored = first.map((override) => ByName.parse(override).matcher.options);
  assert.deepEqual(colored.sort(), [...STATUS_CLASSES].sort());
  for (const other of others) assert.deepEqual(other, first);
});

const ByName = z.object({
  matcher: z.object({ id: z.literal('byName'), options: z.string() }),
  properties: z.tuple([z.object({ id: z.literal('color') })]),
});

function panelNamed(title: string): Panel {
  return parseDashboard().panels.find((panel) => panel.title === title) ?? assert.fail(title);
}

test('each alert has a severity, and says what it means and what to do', () => {
  for (const { name, text } of parseAlerts()) {
    assert.match(text, /^ +labels: \{ severity: (critical|warning|info) \}$/m, name);
    for (const key of ['summary', 'description', 'action'])
      assert.match(text, new RegExp(`^ +${key}: \\S`, 'm'), `${name}: ${key}`);
  }
});

test('the page on operations lists the alerts by severity', () => {
  const page = readFileSync(new URL('../../src/docs/operations.md', import.meta.url), 'utf8');
  const listed = [...page.matchAll(/^\| `(critical|warning|info)` +\|[^|]*\|(.*)\|$/gm)].flatMap(
    ([, severity = '', names = '']) =>
      [...names.matchAll(/`(\w+)`/g)].map(([, name = '']) => `${severity}: FlyAffinity${name}`),
  );
  const written = parseAlerts().map(({ name, text }) => {
    const [, severity = ''] = /severity: (\w+)/.exec(text) ?? [];
    return `${severity}: ${name}`;
  });
  assert.deepEqual(listed.sort(), written.sort());
});

test('each setting, panel and alert that an alert names exists', () => {
  const text = readAlerts();
  const titles = parseDashboard().panels.map(({ title }) => title);
  const alerts = parseAlerts().map(({ name }) => name);
  const settings = text.match(/\b[A-Z]+(?:_[A-Z]+)+\b/g) ?? [];
  const panels = [...text.matchAll(/panel "([^"]+)"/g)].map(([, title = '']) => title);
  assert.ok(settings.length > 5 && panels.length > 2);
  const known: readonly string[] = [...SETTING_NAMES, ...titles, ...alerts];
  const named = [...settings, ...panels, ...(text.match(/FlyAffinity\w+/g) ?? [])];
  assert.deepEqual(
    named.filter((name) => !known.includes(name)),
    [],
  );
});

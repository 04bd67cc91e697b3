/** What the dashboard and the alert rules consist of. */
import assert from 'node:assert/strict';
import { z } from 'zod';
import { readAlerts, readDashboard } from '../../src/observability/monitoring-files.ts';

const Target = z.object({ expr: z.string(), legendFormat: z.string() });
const Panel = z.object({
  ...{ id: z.number(), type: z.string(), title: z.string(), description: z.string().optional() },
  gridPos: z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() }),
  fieldConfig: z
    .object({ defaults: z.object({ unit: z.string() }), overrides: z.array(z.unknown()) })
    .optional(),
  targets: z.array(Target).optional(),
});
const Variable = z.object({
  name: z.string(),
  type: z.string(),
  definition: z.string().optional(),
});
const Dashboard = z.object({
  templating: z.object({ list: z.array(Variable) }),
  panels: z.array(Panel),
});

export type Panel = z.infer<typeof Panel>;

export function parseDashboard(): z.infer<typeof Dashboard> {
  return Dashboard.parse(JSON.parse(readDashboard()));
}

export interface Query {
  readonly title: string;
  readonly expr: string;
  /** The labels that name a series in the legend. */
  readonly legendLabels: readonly string[];
}

const LEGEND_LABEL = /\{\{(\w+)\}\}/g;

export function queriesOf(panels: readonly Panel[]): readonly Query[] {
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat }) => ({
      ...{ title, expr },
      legendLabels: [...legendFormat.matchAll(LEGEND_LABEL)].map(([, label = '']) => label),
    })),
  );
}

export interface Alert {
  readonly name: string;
  /** 0 if it fires at once. */
  readonly forMinutes: number;
  /** The rule as it is written. */
  readonly text: string;
}

const FOR = /^ +for: (\d+)([mh])$/m;

export function parseAlerts(): readonly Alert[] {
  const [, ...rules] = readAlerts().split(/^ +- alert: /m);
  return rules.map((text) => {
    const [, name] = /^(\w+)$/m.exec(text) ?? [];
    assert.ok(name);
    const [, amount = '0', unit] = FOR.exec(text) ?? [];
    return { name, text, forMinutes: Number(amount) * (unit === 'h' ? 60 : 1) };
  });
}

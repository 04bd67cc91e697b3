/** A Prometheus that scrapes the Machines of a simulation, with the labels that Fly.io adds. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { z } from 'zod';
import type { SimulatedMachine } from '../../../src/simulator/machine.ts';
import { freePort } from '../../support/free-port.ts';
import { findProgram, type Needed } from '../../support/needed.ts';
import { stoppedAfter, type Stops } from '../../support/stopped-after.ts';
import { until } from './until.ts';

/** For `skipUnlessFound`. */
export const neededForPrometheus: Needed<string> = {
  what: 'the dashboard on a real Prometheus',
  found: findProgram(['prometheus']),
  missing: 'prometheus on the PATH',
  howToGet: 'apt-get install prometheus',
};

const Vector = z.object({
  resultType: z.literal('vector'),
  result: z.array(
    z.object({
      metric: z.record(z.string(), z.string()),
      value: z.tuple([z.number(), z.string()]),
    }),
  ),
});
const Rule = z.object({
  ...{ name: z.string(), health: z.string(), lastError: z.string().optional() },
  alerts: z.array(z.object({ annotations: z.record(z.string(), z.string()) })),
});
const Rules = z.object({ groups: z.array(z.object({ rules: z.array(Rule) })) });

type Rule = z.infer<typeof Rule>;
export type Sample = z.infer<typeof Vector>['result'][number];

export interface Prometheus {
  /** The samples of an instant query, now. */
  query(expr: string): Promise<readonly Sample[]>;
  labelValues(label: string, selector: string): Promise<readonly string[]>;
  rules(): Promise<readonly Rule[]>;
}

interface PrometheusOptions {
  /** The path of the program, as in {@link neededForPrometheus}. */
  readonly program: string;
  readonly machines: readonly SimulatedMachine[];
  readonly ruleFile: string;
}

const INTERVAL = '1s';

export function startPrometheus(t: TestContext, options: PrometheusOptions): Promise<Prometheus> {
  return stoppedAfter(t, (stops) => start(options, stops));
}

async function start(options: PrometheusOptions, stops: Stops): Promise<Prometheus> {
  const directory = await mkdtemp(path.join(tmpdir(), 'fly-affinity-prometheus-'));
  stops.push(() => rm(directory, { recursive: true, force: true }));
  const configFile = path.join(directory, 'prometheus.yaml');
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify(configOf(options)));
  const url = `http://127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${configFile}`,
    `--storage.tsdb.path=${path.join(directory, 'data')}`,
    `--web.listen-address=${new URL(url).host}`,
    '--log.level=error',
  ];
  const child = spawn(options.program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  stops.unshift(() => kill(child));
  await until(async () => {
    assert.equal(child.exitCode, null, 'Prometheus has ended');
    return (await isReady(url)) ? [] : ['Prometheus is ready'];
  });
  return clientOf(url);
}

function configOf({ machines, ruleFile }: PrometheusOptions): object {
  return {
    global: { scrape_interval: INTERVAL, scrape_timeout: INTERVAL, evaluation_interval: INTERVAL },
    rule_files: [ruleFile],
    scrape_configs: [
      {
        job_name: 'fly',
        static_configs: machines.map(({ id, app, region, ports }) => ({
          targets: [`127.0.0.1:${ports.admin}`],
          labels: { app, region, instance: id },
        })),
      },
    ],
  };
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/-/ready`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    // It does not listen yet.
    return false;
  }
}

function clientOf(url: string): Prometheus {
  async function get<Data>(
    pathname: string,
    params: Record<string, string>,
    data: z.ZodType<Data>,
  ) {
    const response = await fetch(
      `${url}/api/v1/${pathname}?${new URLSearchParams(params).toString()}`,
    );
    const text = await response.text();
    assert.equal(response.status, 200, `${Object.values(params).join(' ')}: ${text}`);
    return z.object({ data }).parse(JSON.parse(text)).data;
  }
  return {
    query: async (expr) => (await get('query', { query: expr }, Vector)).result,
    labelValues: (label, selector) =>
      get(`label/${label}/values`, { 'match[]': selector }, z.array(z.string())),
    rules: async () => {
      const { groups } = await get('rules', { type: 'alert' }, Rules);
      return groups.flatMap(({ rules }) => rules);
    },
  };
}

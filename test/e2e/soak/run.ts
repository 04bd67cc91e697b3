/** A run: the same load twice, and the readings after each of them. */
import { systemClock } from '../../../src/clock.ts';
import { createChance } from './chance.ts';
import type { Readings } from './checks/memory.ts';
import { untilQuiet } from './checks/quiet.ts';
import { takeReading, type Reading } from './checks/reading.ts';
import { Ledger } from './ledger.ts';
import { runLoad } from './load.ts';
import { Outages } from './outages.ts';
import { restartNowAndThen } from './restarts.ts';
import type { Settings } from './settings.ts';
import type { Stage } from './stage.ts';
import { Tally } from './tally.ts';
import { ConnectionPool } from './wire/connection-pool.ts';

export interface Run {
  readonly stage: Stage;
  readonly tally: Tally;
  readonly ledger: Ledger;
  readonly outages: Outages;
  /** One for each sidecar that still runs. */
  readonly readings: readonly Readings[];
  /** What was still open a minute after the warm-up, and after the load. */
  readonly leftAfterWarmUp: readonly string[];
  readonly leftAfterLoad: readonly string[];
}

/** For the random choices of the app restarts. */
const RESTARTS_NUMBER = 3;

export async function performRun(settings: Settings, stage: Stage): Promise<Run> {
  const { loadMs, warmUpMs, isVerbose } = settings;
  const outages = new Outages();
  const when = (): string => outages.lastKill();
  const tally = new Tally({ isVerbose, when, print: console.error });
  const parts = { settings, stage, outages, tally, ledger: new Ledger() };
  const start = await readAll(stage);
  await load(parts, { name: 'warm-up', seed: settings.seed, forMs: warmUpMs });
  const leftAfterWarmUp = await untilQuiet(stage);
  const baseline = await readAll(stage);
  await load(parts, { name: 'load', seed: settings.seed + 1, forMs: loadMs });
  const leftAfterLoad = await untilQuiet(stage);
  const end = await readAll(stage);
  const readings = stage.sidecars.flatMap(({ name }): Readings[] => {
    const [atStart, atBaseline, atEnd] = [start.get(name), baseline.get(name), end.get(name)];
    if (!atStart || !atBaseline || !atEnd) return [];
    return [{ name, start: atStart, baseline: atBaseline, end: atEnd }];
  });
  return { ...parts, readings, leftAfterWarmUp, leftAfterLoad };
}

/** By Machine, without those whose sidecar has ended. */
async function readAll(stage: Stage): Promise<ReadonlyMap<string, Reading>> {
  const readings = new Map<string, Reading>();
  for (const sidecar of stage.sidecars) {
    const reading = await takeReading(sidecar, stage.portsOf(sidecar.name));
    if (reading) readings.set(sidecar.name, reading);
  }
  return readings;
}

interface LoadParts extends Pick<Run, 'stage' | 'tally' | 'ledger' | 'outages'> {
  readonly settings: Settings;
}

interface LoadPlan {
  readonly name: string;
  readonly seed: number;
  readonly forMs: number;
}

/** Ends early when a sidecar has ended. */
async function load(parts: LoadParts, { name, seed, forMs }: LoadPlan): Promise<void> {
  const { settings, stage, outages, tally, ledger } = parts;
  const { isDirect, longestStayMs, kinds } = settings;
  const { machines, apps } = stage;
  const connections = new ConnectionPool();
  const around = { machines, isDirect, longestStayMs, ledger, outages, connections };
  const over = new AbortController();
  const isOver = over.signal;
  const chance = createChance(seed, RESTARTS_NUMBER);
  const all = Promise.all([
    runLoad({ name, seed, kinds, around, tally, isOver }),
    restartNowAndThen({ apps, chance, outages, loadMs: forMs, isOver }),
  ]);
  const limit = new AbortController();
  const isUp = systemClock.sleep(forMs, limit.signal);
  const ended = await Promise.race([isUp, stage.sidecarEnded, all.then(() => undefined)]);
  if (ended !== undefined) console.error(`${ended}: the load ends here`);
  limit.abort();
  over.abort();
  await all;
  connections.closeAll();
}

/** The disk space of a session, its indexes included, once the write-ahead log is checkpointed. */
import { statSync } from 'node:fs';
import type { Bench, Stage } from './bench.ts';
import type { Measurement, Ratio } from './result.ts';
import {
  copyOfFilled,
  filledFile,
  HOUR_MS,
  openFile,
  performAll,
  storedKey,
} from './store-sessions.ts';

/** Later than any session in the file expires. */
const TOUCHED_TTL_MS = 3 * HOUR_MS;
/** Concurrent touches. */
const AT_ONCE = 1_000;

/** After touches of all sessions, in an order unrelated to their keys and their expiry. */
export const benchStoreSize: Bench = async (stage) => {
  const { sessionsOnDisk } = stage.effort;
  const path = await filledFile(stage);
  const touchedPath = await copyOfFilled(stage, 'touched');
  await touchAll(stage, touchedPath);
  const measurements = [
    bytesPerSession('session', path, sessionsOnDisk),
    bytesPerSession('session, touched', touchedPath, sessionsOnDisk),
  ];
  return {
    title: `SQLite file with ${sessionsOnDisk} sessions`,
    unit: 'bytes',
    perUnit: 'session',
    measurements,
    ratios: measurements.map(ratioTo100),
  };
};

async function touchAll(stage: Stage, path: string): Promise<void> {
  const store = await openFile(path);
  stage.after(() => store.close());
  const numbers = shuffled(stage.effort.sessionsOnDisk);
  await performAll(numbers, AT_ONCE, async (number) => {
    const isThere = await store.touch(storedKey(number), TOUCHED_TTL_MS);
    if (!isThere) throw new Error('a session is missing');
  });
  await store.close();
}

function shuffled(count: number): number[] {
  const weighted = Array.from({ length: count }, (_, number) => ({
    number,
    weight: Math.random(),
  }));
  return weighted.sort((a, b) => a.weight - b.weight).map(({ number }) => number);
}

function bytesPerSession(candidate: string, path: string, sessions: number): Measurement {
  return { candidate, value: statSync(path).size / sessions, cpuMicros: undefined };
}

function ratioTo100({ candidate, value }: Measurement): Ratio {
  return { name: `bytes of a ${candidate}`, value, byCpu: undefined, target: { atMost: 100 } };
}

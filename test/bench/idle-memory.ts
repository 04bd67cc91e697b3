/** Memory of an idle process that has served a few requests. */
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/free-port.ts';
import type { Bench, Stage } from './bench.ts';
import {
  installed,
  openSessions,
  withCandidates,
  withSidecars,
  type Candidate,
  type CandidateName,
} from './candidates.ts';
import { cpuMicrosOf } from './load/cpu.ts';
import { median } from './median.ts';
import { residentBytesOf } from './resident.ts';
import { figureOf, type Measurement } from './result.ts';
import { TARGETS } from './targets.ts';

/** Not the others: Node compiles their TypeScript at run time, which uses memory too. */
const NAMES: readonly CandidateName[] = ['nginx', 'sidecar'];
const IN_FLEET = 'sidecar, with a fleet';
const BYTES_PER_MB = 1_000_000;
const SESSIONS = 10;

export const benchIdle: Bench = async (stage) => {
  const players: [string, () => Promise<number>][] = [
    ...installed(NAMES).map((name): [string, () => Promise<number>] => [
      name,
      () => withCandidates([name], stage, megabytesOfFirst),
    ]),
    [IN_FLEET, () => megabytesInFleet(stage)],
  ];
  const measurements: Measurement[] = [];
  for (const [candidate, play] of players) {
    const turns: number[] = [];
    for (let round = 0; round < stage.effort.memoryRounds; round += 1) turns.push(await play());
    measurements.push({ candidate, value: median(turns), turns, cpuMicros: undefined });
  }
  return {
    title: 'Memory of an idle process',
    unit: 'MB',
    perUnit: 'process',
    measurements,
    ratios: [
      figureOf(measurements, 'sidecar', 'MB of a sidecar alone', TARGETS.megabytesAlone),
      figureOf(measurements, IN_FLEET, 'MB of a sidecar in a fleet', TARGETS.megabytesInFleet),
    ],
  };
};

/** The peer is a second sidecar, so that the two exchange messages. */
async function megabytesInFleet({ workspace }: Stage): Promise<number> {
  const [port, otherPort] = [await freePort(), await freePort()];
  const first = {
    FLY_MACHINE_ID: 'm1',
    PEER_PORT: String(port),
    FLEET: `m2@127.0.0.1:${otherPort}`,
  };
  const other = {
    FLY_MACHINE_ID: 'm2',
    PEER_PORT: String(otherPort),
    FLEET: `m1@127.0.0.1:${port}`,
  };
  const each = [first, other].map((sidecarEnv) => ({ workspace, sidecarEnv }));
  return withSidecars(each, megabytesOfFirst);
}

async function megabytesOfFirst([candidate]: readonly Candidate[]): Promise<number> {
  if (!candidate) throw new Error('no candidate');
  await openSessions(candidate, SESSIONS);
  const { pid } = candidate.process;
  await untilQuiet(pid);
  return residentBytesOf(pid) / BYTES_PER_MB;
}

const CHECK_INTERVAL_MS = 500;
const QUIET_MICROS = 10_000;
const MAX_CHECKS = 20;

/** Resolves once the process uses next to no CPU time, at the latest after ten seconds. */
async function untilQuiet(pid: number): Promise<void> {
  for (let checks = 0; checks < MAX_CHECKS; checks += 1) {
    const before = cpuMicrosOf(pid);
    await sleep(CHECK_INTERVAL_MS);
    const after = cpuMicrosOf(pid);
    if ((after ?? 0) - (before ?? 0) < QUIET_MICROS) return;
  }
}

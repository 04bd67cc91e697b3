/** All checks after a run. */
import { atMost, isSame, none, type Check } from './checks/check.ts';
import { checkReadings, MAX_STALLED_MB, MEGABYTE } from './checks/memory.ts';
import { checkRequests } from './checks/requests.ts';
import type { Run } from './run.ts';
import type { Stage } from './stage.ts';

const MIN_LATERS = 3;
const LATER_SHARE = 0.001;

export interface RunResult {
  readonly checks: readonly Check[];
  /** The requests sent to each Machine, and its log. */
  readonly requestLines: readonly string[];
}

/** The sidecars have ended after it. */
export async function checkRun(run: Run): Promise<RunResult> {
  const { stage, tally, ledger, readings, leftAfterWarmUp, leftAfterLoad } = run;
  const early = checkAlive(stage);
  const total = tally.total();
  const requests = await checkRequests(stage, ledger);
  return {
    checks: [
      ...early,
      atMost('unexpected failures', total.unexpected, 0),
      atMost('requests sent again on request', total.laters, laterLimit(total.requests)),
      none('open after the warm-up', leftAfterWarmUp),
      none('open after the load', leftAfterLoad),
      ...checkApps(stage),
      ...readings.flatMap(checkReadings),
      ...requests.checks,
      ...(await endAll(stage)),
    ],
    requestLines: requests.lines,
  };
}

/**
 * A sidecar that can't query the other one in time returns 503, which happens on a busy computer.
 */
function laterLimit(requests: number): number {
  return Math.max(MIN_LATERS, Math.floor(requests * LATER_SHARE));
}

function checkAlive({ sidecars }: Stage): readonly Check[] {
  return sidecars.map(({ name, ending }) => isSame(`${name}: state`, ending ?? 'runs', 'runs'));
}

function checkApps({ apps }: Stage): readonly Check[] {
  return apps.flatMap(({ name, malformed, mostStalledBytes }) => [
    none(`${name}: malformed requests that reached the app`, malformed),
    atMost(
      `${name}: sent for a client that does not read`,
      mostStalledBytes / MEGABYTE,
      MAX_STALLED_MB,
      'MB',
    ),
  ]);
}

/** Nothing is open any more, so a signal ends a sidecar immediately. */
function endAll({ sidecars }: Stage): Promise<readonly Check[]> {
  return Promise.all(
    sidecars.map(async (sidecar) =>
      isSame(`${sidecar.name}: ended by SIGTERM`, await sidecar.end(), 'code 0'),
    ),
  );
}

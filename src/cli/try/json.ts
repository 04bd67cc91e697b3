/** The result of `try` for programs. Session ids are hashed. */
import type { Probe } from '../../probe/probe.ts';
import type { Results, Verdict } from './report.ts';
import { summaryOf } from './summary.ts';
import type { TrialResult } from './trial.ts';

interface Figures {
  readonly machineCount: number;
  readonly seed: number;
}

export function jsonOf(
  { without, affine }: Results,
  { preset, where }: Probe,
  { isGood, sentences }: Verdict,
  { machineCount, seed }: Figures,
): object {
  return {
    ok: isGood,
    verdict: sentences.join(' '),
    protocol: { preset: preset ?? null, where },
    machines: machineCount,
    seed,
    without: trialOf(without),
    with: trialOf(affine),
  };
}

function trialOf(result: TrialResult): object {
  const { reasons, ...summary } = summaryOf(result);
  const { app = null, sidecar = null } = result.memory;
  return {
    ...summary,
    memoryBytes: { app, sidecar },
    reasons: Object.fromEntries(reasons),
    sessions: result.sessions.map(({ key = null, machine = null, calls }) => ({
      session: key,
      machine,
      calls: calls.map((call) => ({
        machine: call.machine ?? null,
        replays: call.replays,
        ms: call.ms,
        lost: call.loss ?? null,
        elsewhere: call.isElsewhere,
      })),
    })),
  };
}

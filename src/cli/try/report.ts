/** What `try` prints about its two trials. */
import type { MachineId } from '../../session.ts';
import { formatTable, type Style } from './style.ts';
import { reasonsOf, summaryOf, type Summary } from './summary.ts';
import { MAX_SILENT_CALLS, type TrialCall, type TrialSession } from './traffic.ts';
import type { TrialResult } from './trial.ts';

/** A row for each session: `.` for a call that found it, `x` for one that did not, `-` for one that was not made. */
export function formatSessions(
  { sessions, callsPlanned }: TrialResult,
  machines: readonly { readonly id: MachineId }[],
  style: Style,
): string {
  const numberOf = (id: MachineId | undefined): string => {
    const index = machines.findIndex((machine) => machine.id === id);
    return index === -1 ? '-' : String(index + 1);
  };
  const rows = sessions.map(({ key, machine, calls }) => [
    key ?? '(none)',
    numberOf(machine),
    calls.map((call) => markOf(call, style)).join('') +
      style.faint('-'.repeat(callsPlanned - calls.length)),
    formatReasons(calls, callsPlanned - calls.length),
  ]);
  return formatTable([['session', 'Machine', 'calls', 'lost'].map(style.faint), ...rows]);
}

function markOf({ loss, isElsewhere }: TrialCall, style: Style): string {
  if (loss) return style.bad('x');
  return isElsewhere ? style.bad('o') : style.good('.');
}

function formatReasons(calls: TrialSession['calls'], notMade: number): string {
  const reasons = reasonsOf(calls).map(([why, count]) => `${count}: ${why}`);
  const lost = reasons.length === 0 ? '0' : reasons.join('; ');
  return notMade === 0 ? lost : `${lost}; ${notMade} not made`;
}

/** Why not all calls were made: a sentence; none if all were. */
export function formatCutShort({ cutShort }: TrialResult): readonly string[] {
  switch (cutShort) {
    case 'time':
      return ['  Not all calls were made (-): the time was up.'];
    case 'silence':
      return [
        `  Not all calls were made (-): ${MAX_SILENT_CALLS} had no response in time, and each of them takes long.`,
      ];
    case undefined:
      return [];
  }
}

export interface Results {
  readonly without: TrialResult;
  readonly affine: TrialResult;
}

export function formatComparison({ without, affine }: Results, style: Style): string {
  const [before, after] = [summaryOf(without), summaryOf(affine)];
  const rows = [
    ['', 'without', 'with fly-affinity'].map(style.strong),
    ['calls that found their session', kept(before, style), kept(after, style)],
    ...reasonRows(before, after),
    ...(before.notMade + after.notMade === 0
      ? []
      : [['calls that were not made', String(before.notMade), String(after.notMade)]]),
    ['calls that Fly Proxy replayed', String(before.replayed), String(after.replayed)],
    ['time of a call, median', formatMs(before.medianMs), formatMs(after.medianMs)],
    ['time of a call, 95 of 100', formatMs(before.p95Ms), formatMs(after.p95Ms)],
    ['memory of a Machine', formatMemory(without), formatMemory(affine)],
  ];
  return formatTable(rows);
}

function kept({ calls, lost, elsewhere }: Summary, style: Style): string {
  const text = `${calls - lost - elsewhere} of ${calls}`;
  return lost + elsewhere === 0 ? style.good(text) : style.bad(text);
}

/** Both columns for each reason that one of them has. */
function reasonRows(before: Summary, after: Summary): readonly (readonly string[])[] {
  const countIn = (summary: Summary, wanted: string): string =>
    String(summary.reasons.find(([why]) => why === wanted)?.[1] ?? 0);
  const reasons = new Set([...before.reasons, ...after.reasons].map(([why]) => why));
  return [...reasons].map((why) => [`  ${why}`, countIn(before, why), countIn(after, why)]);
}

function formatMs(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}

function formatMemory({ memory: { app, sidecar } }: TrialResult): string {
  if (app === undefined) return 'not known here';
  return sidecar === undefined
    ? megabytes(app)
    : `${megabytes(app)}, and ${megabytes(sidecar)} for the sidecar`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1_000_000)} MB`;
}

export interface Verdict {
  readonly isGood: boolean;
  readonly sentences: readonly string[];
}

export function verdictOf({ without, affine }: Results, hasSeenIds: boolean): Verdict {
  const [before, after] = [summaryOf(without), summaryOf(affine)];
  if (after.calls === 0) return { isGood: false, sentences: ['No call was made.'] };
  const [lostBefore, lostAfter] = [before, after].map(({ lost, elsewhere }) => lost + elsewhere);
  if (lostAfter) {
    const how = hasSeenIds
      ? 'See the reasons above.'
      : 'The sidecars saw no session id in these requests: SESSION_PROTOCOLS has to say where it is, see fly-affinity help presets.';
    return {
      isGood: false,
      sentences: [
        `With fly-affinity ${lostAfter} of ${after.calls} calls lost their session.`,
        how,
      ],
    };
  }
  if (!lostBefore) {
    return {
      isGood: true,
      sentences: [
        'No call lost its session, with or without fly-affinity.',
        'Either every Machine knows every session, as with a database that they share, or these calls do not show it.',
      ],
    };
  }
  return {
    isGood: true,
    sentences: [
      `With fly-affinity every call found its session; without it, ${lostBefore} of ${before.calls} did not.`,
      'Where you deploy the app from, fly-affinity init puts it into the Dockerfile and fly.toml.',
    ],
  };
}

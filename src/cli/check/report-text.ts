/** The report of a check as text. */
import type { CheckReport, Told } from './report.ts';
import type { Recipient } from './sessions.ts';
import type { LossKind } from '../../probe/probe.ts';

/** Several lines, each with its line break. */
export function formatReport(report: CheckReport): string {
  const { sessions, problems, isCutShort } = report;
  const hasTried = sessions.opened + sessions.refused > 0;
  const lines = [
    ...(hasTried ? countsOf(report) : []),
    ...(isCutShort ? ['', 'The check ended early: time was up, or a signal came.'] : []),
    ...listOf('How clients are told', report.told.flatMap(sayTold)),
    ...listOf('Calls, and the time from connecting to the response if not lost', table(report)),
    ...listOf(hasTried ? 'Sessions that were not opened' : 'No session was opened', problems),
    '',
    ...conclusionOf(report),
  ];
  return `${lines.join('\n')}\n`;
}

function countsOf({ sessions, calls, machines }: CheckReport): string[] {
  const percent = Math.max(1, Math.round((calls.lost / calls.made) * 100));
  const lost = `${calls.lost} lost${calls.lost === 0 ? '' : ` (${percent}%)`}`;
  const counts = [
    `Sessions  ${sessions.opened} opened${also(sessions.refused, 'not opened')}`,
    `Calls     ${calls.made} made, ${lost}${also(calls.failed, 'failed')}`,
  ];
  if (machines.length === 0) return counts;
  const names = `${machines.length}, as the sidecar names them to clients: ${machines.join(', ')}`;
  return [...counts, `Machines  ${names}`];
}

function also(count: number, what: string): string {
  return count === 0 ? '' : `, ${count} ${what}`;
}

function listOf(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `  ${line}`)];
}

const MEANINGS: Readonly<Record<LossKind, string>> = {
  'unknown-session': 'clients open a new session; what the old one held is gone',
  'new-session': 'clients are not told; what the session held is gone',
  error: 'clients are not told to open a new session: most show an error',
  unavailable: 'the app was not available; the session may be there',
  'no-response': 'the session may be there',
};

function sayTold({ how, why, count, isLost }: Told): string[] {
  const isRefusedOnly = how === 'error' && !isLost;
  const meaning = isRefusedOnly ? 'too many requests; the session may be there' : MEANINGS[how];
  return [`${count} ${count === 1 ? 'time' : 'times'}: ${why}`, `  ${meaning}`];
}

const SENT_TO: Readonly<Record<Recipient, string>> = {
  any: 'where Fly Proxy sends them',
  own: "to the session's Machine",
  other: 'to another Machine',
};

const COLUMNS = [28, 7, 7, 11, 11] as const;

function table({ latency, hopMs }: CheckReport): string[] {
  if (latency.length === 0) return [];
  // Two calls may differ by more than a short hop takes.
  const costMs = hopMs === null ? undefined : Math.max(0, hopMs);
  const hop =
    costMs === undefined ? [] : [`the hop from another Machine costs ${costMs} ms (median)`];
  return [
    row(['sent', 'calls', 'lost', 'median', 'worst']),
    ...latency.map(({ sentTo, calls, lost, medianMs, worstMs }) =>
      row([SENT_TO[sentTo], String(calls), String(lost), inMs(medianMs), inMs(worstMs)]),
    ),
    ...hop,
  ];
}

function row([name = '', ...cells]: readonly string[]): string {
  const [first, ...widths] = COLUMNS;
  const rest = widths.map((width, index) => (cells[index] ?? '').padStart(width));
  return name.padEnd(first) + rest.join('');
}

function inMs(ms: number | null): string {
  return ms === null ? '-' : `${ms} ms`;
}

function conclusionOf({ verdict, sessions, calls, latency, machines }: CheckReport): string[] {
  switch (verdict) {
    case 'lost':
      return [
        `Sessions are lost: ${calls.lost} of ${calls.made} calls did not find their session. They met another Machine, or`,
        'the app has forgotten it.',
        calls.lost === calls.made && calls.made > 1
          ? 'As no call found it: do the calls carry the session at all, or open a new one (--open, --request)?'
          : machines.length === 0
            ? 'A sidecar on each Machine sends them to the right one: fly-affinity init puts it there.'
            : 'A sidecar is there: fly-affinity explain says how it routes such a call, and why.',
      ];
    case 'unreachable':
      return ['The app does not respond: nothing is known about its sessions.'];
    case 'stateless':
      return ['The app keeps no session here, so none can be lost.'];
    case 'failed':
      return sessions.opened > 0
        ? ['No session was lost, but not everything went well.']
        : [
            'Nothing is known about the sessions of the app. --path and --request say where they are,',
            '--header adds what the app asks for: fly-affinity check --help',
          ];
    case 'kept':
      return latency.some(({ sentTo }) => sentTo === 'other')
        ? ['No session was lost, also where a call arrived at another Machine.']
        : [
            'No session was lost. But nothing shows that the calls met more than one Machine: name two with',
            '--machine (fly machine list), and each call goes to another one than the call before.',
          ];
  }
}

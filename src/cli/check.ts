/** `fly-affinity check`: whether calls of one session find it in a deployment, seen from outside. */
import { parseCheckArguments, USAGE, type CheckArguments } from './check/arguments.ts';
import {
  reportDetection,
  reportSessions,
  reportUnreachable,
  type CheckReport,
} from './check/report.ts';
import { formatReport } from './check/report-text.ts';
import { CALLS_TO_KNOWN_MACHINES, checkSessions, CONCURRENCY } from './check/sessions.ts';
import { print, reportMistake, type CommandContext } from './command.ts';
import { EXIT_FAILURE, exitCodeOf } from '../app/lifecycle.ts';
import { detect } from '../probe/detect.ts';
import { createProbeClient, type ProbeClient } from '../probe/http-client.ts';
import type { Probe } from '../probe/probe.ts';

export { USAGE };

type Parts = Pick<CommandContext, 'clock' | 'events' | 'stdout' | 'stderr'>;

/** Resolves to the exit code. */
export async function execute(args: readonly string[], parts: Parts): Promise<number> {
  const parsed = parseCheckArguments(args);
  if (parsed.kind === 'help') {
    await print(parts.stdout, USAGE);
    return 0;
  }
  if (parsed.kind === 'mistakes') return reportMistake(parts, parsed.mistakes.join('; '), 'check');
  const { origin, headers, isJson } = parsed;
  const client = createProbeClient({ origin, headers, clock: parts.clock });
  const stop = stopOnSignalOrTimeout(parsed.timeoutMs, client, parts);
  try {
    const report = await check(parsed, {
      client,
      stopping: stop.signal,
      // With --json, standard output is for the result alone.
      say: (text) => print(isJson ? parts.stderr : parts.stdout, text),
    });
    await print(
      parts.stdout,
      isJson ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report),
    );
    const signal = stop.receivedSignal();
    if (signal) return exitCodeOf(signal);
    return EXIT_CODES[report.verdict];
  } finally {
    stop.end();
    await client.close();
  }
}

const EXIT_CODES: Readonly<Record<CheckReport['verdict'], number>> = {
  kept: 0,
  stateless: 0,
  lost: EXIT_FAILURE,
  failed: EXIT_FAILURE,
  unreachable: EXIT_FAILURE,
};

interface Stopping {
  readonly signal: AbortSignal;
  /** Undefined if none came. */
  readonly receivedSignal: () => NodeJS.Signals | undefined;
  readonly end: () => void;
}

/** For what is in progress, and for the ends of the sessions. */
const GRACE_MS = 5_000;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** A second signal ends the process. */
function stopOnSignalOrTimeout(
  timeoutMs: number,
  client: ProbeClient,
  { clock, events }: Parts,
): Stopping {
  const stopping = new AbortController();
  let received: NodeJS.Signals | undefined;
  const cancels = [clock.after(timeoutMs, () => stop())];
  const ignoreSignals = (): void => {
    for (const name of SIGNALS) events.off(name, onSignal);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    received = signal;
    ignoreSignals();
    stop();
  };
  const stop = (): void => {
    stopping.abort();
    cancels.push(clock.after(GRACE_MS, () => void client.close()));
  };
  for (const name of SIGNALS) events.on(name, onSignal);
  return {
    signal: stopping.signal,
    receivedSignal: () => received,
    end: () => {
      ignoreSignals();
      for (const cancel of cancels) cancel();
    },
  };
}

interface Checking {
  readonly client: ProbeClient;
  readonly stopping: AbortSignal;
  readonly say: (text: string) => Promise<void>;
}

async function check(
  given: CheckArguments,
  { client, stopping, say }: Checking,
): Promise<CheckReport> {
  const { origin, probes, machines, limits } = given;
  await say(`Checking ${origin}\n${planOfDetection(probes)}`);
  const reached = await client.send({ method: 'GET', target: '/', isEnough: () => true });
  if (reached.kind === 'no-response') {
    return reportUnreachable(origin, reached, stopping.aborted);
  }
  const detection = await detect(client, probes);
  if (detection.kind !== 'found') {
    return reportDetection(origin, detection, stopping.aborted);
  }
  const { probe } = detection;
  await say(planOfSessions(probe, given));
  const checked = await checkSessions({ client, probe, limits, machines, stopping });
  return reportSessions(origin, probe, checked);
}

/** Before anything is sent. */
function planOfDetection(probes: readonly Probe[]): string {
  const places = [...new Set(['GET /', ...probes.map(({ where }) => where)])];
  return `Sends these first, until one of them opens a session:\n  ${places.join('\n  ')}\n`;
}

function planOfSessions({ preset, where }: Probe, { limits, timeoutMs }: CheckArguments): string {
  const name = preset === undefined ? '' : `${preset}, `;
  const { sessions } = limits;
  const count = `${sessions} ${sessions === 1 ? 'session' : 'sessions'}`;
  const calls = limits.calls + CALLS_TO_KNOWN_MACHINES;
  return [
    `Found: ${name}${where}`,
    `Sends now: ${count}, and up to ${calls} calls in each, each on a new connection,`,
    `  ${CONCURRENCY} at a time, none later than ${timeoutMs / 1_000} s after the start; then it ends the sessions.`,
    '',
    '',
  ].join('\n');
}

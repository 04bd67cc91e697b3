/** Starts the app once, alone: finds out whether it listens on PORT, and which protocol it speaks. */
import { detect, type Detection } from '../../probe/detect.ts';
import type { Probe } from '../../probe/probe.ts';
import { PRESETS } from '../../protocols/presets.ts';
import { startTrial, type TrialOptions } from './trial.ts';

export interface AppCheck {
  readonly detection: Detection;
  readonly startMs: number;
}

/** Rejects if the app does not start. */
export async function checkApp(options: TrialOptions, probes: readonly Probe[]): Promise<AppCheck> {
  const { clock } = options;
  const startedAt = clock.monotonicMs();
  const alone = { ...options, sidecarCommand: undefined, machineCount: 1, port: 0 };
  const trial = await startTrial(alone);
  try {
    const startMs = clock.monotonicMs() - startedAt;
    return { startMs, detection: await detect(trial.client, probes) };
  } finally {
    await trial.close();
  }
}

/** What was recognised, and where its sessions are; one line each. */
export function describeProbe({ preset, where }: Probe): readonly string[] {
  const found = preset === undefined ? undefined : PRESETS[preset];
  if (!found) return [`your request, ${where}`];
  const auto = found.auto.length > 0 ? ', part of SESSION_PROTOCOLS=auto' : '';
  return [
    `${found.products}, at ${where} (preset ${preset}${auto})`,
    `session id in: ${found.ids}`,
    `revealed by: ${found.revealedBy}`,
  ];
}

/** `no protocol`: for an app that no probe knows. */
export function describeFailure(
  detection: Exclude<Detection, { kind: 'found' }>,
): readonly string[] {
  switch (detection.kind) {
    case 'stateless':
      return [
        ...describeProbe(detection.probe).slice(0, 1),
        `It keeps no sessions: ${detection.why}.`,
        'Any Machine can serve any request, so fly-affinity changes nothing for it.',
      ];
    case 'refused':
      return [
        ...describeProbe(detection.probe).slice(0, 1),
        `No session was opened: ${detection.why}.`,
      ];
    case 'unknown':
      return [
        'no protocol that this command knows; it tried',
        ...detection.attempts.map(({ where, result }) => `  ${where}: ${result}`),
        'Say where it is with --path, or give a request that opens a session and is repeated in it:',
        `  fly-affinity try --request 'POST /login' --data 'user=me' -- CMD`,
      ];
  }
}

/** For an app that listens elsewhere: why that fails here, and what to do. */
export function adviceFor(
  command: readonly string[],
  origin: string,
  port: number,
): readonly string[] {
  const own = new URL(origin).port;
  const isOwnPort = own === String(port);
  if (isOwnPort) {
    return [
      `The app listens at ${origin}, and not on 127.0.0.1: let it listen on 127.0.0.1 or 0.0.0.0.`,
    ];
  }
  return [
    `The app listens at ${origin}, and not on PORT, which is ${port} for it.`,
    'Several copies of it run on this computer, so each needs a port of its own. Either let the app read',
    'PORT, or pass it on in the command, with the option or the variable that the app has for it:',
    `  fly-affinity try -- sh -c 'exec ${commandWithPort(command, own)}'`,
    `On Fly.io the app may stay as it is: set UPSTREAM_URL=http://127.0.0.1:${own}.`,
  ];
}

const PLAIN_WORDS = /^[\w ./:=@%+,-]*$/;

function commandWithPort(command: readonly string[], port: string): string {
  const text = command.join(' ');
  // Quotes within quotes would need a shell's rules.
  if (!PLAIN_WORDS.test(text)) return 'CMD --port $PORT';
  const named = new RegExp(`\\b${port}\\b`, 'g');
  return named.test(text) ? text.replace(named, '$PORT') : `${text} --port $PORT`;
}

/** Starts the app once, alone: finds out whether it listens on PORT, and which protocol it speaks. */
import { detect, type Detection } from '../../probe/detect.ts';
import type { Probe } from '../../probe/probe.ts';
import { PRESETS } from '../../protocols/presets.ts';
import { startTrial, type TrialOptions } from './trial.ts';
import type { Clock } from '../../clock.ts';
import type { ProbeClient } from '../../probe/http-client.ts';

export interface AppCheck {
  readonly detection: Detection;
  /** How long a call of the test may take; undefined if no session was opened. */
  readonly callTimeoutMs: number | undefined;
}

/** Rejects if the app does not start. */
export async function checkApp(
  options: TrialOptions & { readonly onStarted: (ms: number) => void },
  probes: readonly Probe[],
): Promise<AppCheck> {
  const { clock } = options;
  const startedAt = clock.monotonicMs();
  const alone = { ...options, sidecarCommand: undefined, machineCount: 1, port: 0 };
  const trial = await startTrial(alone);
  try {
    options.onStarted(clock.monotonicMs() - startedAt);
    const detection = await detect(trial.client, probes);
    return await callAlone(detection, trial.client, clock);
  } finally {
    await trial.close();
  }
}

const MIN_CALL_TIMEOUT_MS = 2_000;
const MAX_CALL_TIMEOUT_MS = 10_000;
/** How many times longer a call may take in the test, where all Machines share this computer. */
const CALL_TIMEOUT_FACTOR = 20;
/** The first one is slow in most apps. */
const CALLS_ALONE = 2;

/** Calls in one session: what fails on the only Machine, no lost session explains. */
async function callAlone(
  detection: Detection,
  client: ProbeClient,
  clock: Clock,
): Promise<Pick<AppCheck, 'detection' | 'callTimeoutMs'>> {
  const unchanged = { detection, callTimeoutMs: undefined };
  if (detection.kind !== 'found') return unchanged;
  const { probe } = detection;
  const opening = await probe.open(client);
  if (opening.kind !== 'opened') return unchanged;
  let lastMs = 0;
  for (let i = 0; i < CALLS_ALONE; i += 1) {
    const startedAt = clock.monotonicMs();
    const { loss } = await opening.session.call();
    if (loss) {
      await opening.session.close();
      const why = `on the only Machine, a call in the session fails: ${loss.why}`;
      return { detection: { kind: 'refused', probe, why }, callTimeoutMs: undefined };
    }
    lastMs = clock.monotonicMs() - startedAt;
  }
  await opening.session.close();
  const wanted = Math.max(MIN_CALL_TIMEOUT_MS, lastMs * CALL_TIMEOUT_FACTOR);
  return { detection, callTimeoutMs: Math.min(MAX_CALL_TIMEOUT_MS, wanted) };
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
        `No session to test: ${detection.why}.`,
      ];
    case 'unknown':
      if (detection.webSocketAt !== undefined) return describeWebSocket(detection.webSocketAt);
      return [
        'no protocol that this command knows; it tried',
        ...detection.attempts.map(({ where, result }) => `  ${where}: ${result}`),
        'Say where it is with --path, or give a request that opens a session and is repeated in it:',
        `  fly-affinity try --request 'POST /login' --data 'user=me' -- CMD`,
        'If another request shows whether the session is there:',
        `  fly-affinity try --open 'POST /login' --open-data 'user=me' --request 'GET /account' -- CMD`,
      ];
  }
}

function describeWebSocket(path: string): readonly string[] {
  return [
    `WebSockets, at ${path}, and no other protocol that this command knows`,
    'A WebSocket stays on its Machine and loses nothing there. But clients that have to meet, as in a room or a',
    'document, have to reach the same Machine. {session} says where the name of the room is:',
    `  fly-affinity try --request 'WS ${path.replace(/\/$/, '')}/{session}' -- CMD`,
    'Products that have rooms need a setting: fly-affinity help presets.',
  ];
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

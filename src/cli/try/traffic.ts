/** The traffic of a trial: sessions, and calls in each of them, one call at a time. */
import type { Clock } from '../../clock.ts';
import type { Exchange, ProbeClient } from '../../probe/http-client.ts';
import { whyNotOpened } from '../../probe/loss.ts';
import type { Call, Loss, NotOpened, Opening, Probe } from '../../probe/probe.ts';
import type { MachineId } from '../../session.ts';
import type { EdgeRequestRecord } from '../../simulator/records.ts';

export interface Traffic {
  readonly probe: Probe;
  readonly sessions: number;
  /** In each session. */
  readonly calls: number;
}

interface TrafficParts {
  readonly client: ProbeClient;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** What the edge knows of a request. */
  readonly recordOf: (requestId: string) => EdgeRequestRecord | undefined;
  /** Called once, after half of the calls. */
  readonly onHalf?: () => Promise<void>;
  /** No call begins after it. */
  readonly signal: AbortSignal;
  /** Whether an app has exited: no call begins then. */
  readonly hasLostApp: () => boolean;
}

export interface TrafficResult {
  readonly sessions: readonly TrialSession[];
  /** Why not all calls were made: {@link MAX_DURATION_MS}, or {@link MAX_SILENT_CALLS}. */
  readonly cutShort: 'time' | 'silence' | undefined;
}

export interface TrialSession {
  /** Hashed; undefined if it could not be opened. */
  readonly key: string | undefined;
  /** The Machine that has it in memory. */
  readonly machine: MachineId | undefined;
  readonly calls: readonly TrialCall[];
}

export interface TrialCall {
  /** Whose app answered; undefined if none did. */
  readonly machine: MachineId | undefined;
  readonly replays: number;
  readonly ms: number;
  readonly loss: Loss | undefined;
  /** The app of another Machine answered, and did not say whether it had the session. */
  readonly isElsewhere: boolean;
}

/** A slow app must not keep anyone waiting: after that time, in ms, no call begins. */
const MAX_DURATION_MS = 60_000;
/** Nor an app that leaves calls without a response: after that many, no call begins. */
export const MAX_SILENT_CALLS = 5;

/** Interleaves the sessions, so that the same seed spreads the same calls alike. */
export async function runTraffic(traffic: Traffic, parts: TrafficParts): Promise<TrafficResult> {
  const { clock, signal, hasLostApp } = parts;
  const endsAt = clock.monotonicMs() + MAX_DURATION_MS;
  const running: RunningSession[] = [];
  const cutShort = (): TrafficResult['cutShort'] => {
    if (clock.monotonicMs() >= endsAt) return 'time';
    const calls = running.flatMap((session) => session.result().calls);
    return calls.filter(isSilent).length >= MAX_SILENT_CALLS ? 'silence' : undefined;
  };
  const isOver = (): boolean => signal.aborted || hasLostApp() || cutShort() !== undefined;
  await warmUp(traffic, parts);
  while (running.length < traffic.sessions && !isOver()) {
    running.push(createRunningSession(await traffic.probe.open(parts.client), parts));
  }
  for (let round = 0; round < traffic.calls; round += 1) {
    if (round === Math.floor(traffic.calls / 2)) await parts.onHalf?.();
    for (const session of running) if (!isOver()) await session.call();
  }
  const isWhole = running.every((session) => session.result().calls.length === traffic.calls);
  const result = isWhole && running.length === traffic.sessions ? undefined : cutShort();
  for (const session of running) await session.close();
  return { sessions: running.map((session) => session.result()), cutShort: result };
}

function isSilent({ loss }: TrialCall): boolean {
  return loss?.how === 'no-response';
}

const WARM_UP_CALLS = 10;

/** The first requests of a process are slow; the figures are not to depend on them. */
async function warmUp({ probe }: Traffic, { client, signal }: TrafficParts): Promise<void> {
  const opening = await probe.open(client);
  if (opening.kind !== 'opened') return;
  for (let i = 0; i < WARM_UP_CALLS && !signal.aborted; i += 1) {
    const { loss } = await opening.session.call();
    if (loss?.how === 'no-response') break;
  }
  await opening.session.close();
}

interface RunningSession {
  call(): Promise<void>;
  close(): Promise<void>;
  result(): TrialSession;
}

function createRunningSession(opening: Opening, { recordOf }: TrafficParts): RunningSession {
  const calls: TrialCall[] = [];
  if (opening.kind !== 'opened') {
    return {
      call: () => {
        calls.push(callWithoutSession(opening));
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
      result: () => ({ key: undefined, machine: undefined, calls }),
    };
  }
  const { session } = opening;
  const machine = recordFor(session.opened, recordOf)?.served;
  return {
    call: async () => void calls.push(trialCallOf(await session.call(), machine, recordOf)),
    close: () => session.close(),
    result: () => ({ key: session.key, machine, calls }),
  };
}

function callWithoutSession(opening: NotOpened): TrialCall {
  const loss: Loss = { how: 'error', why: `the session was not opened: ${whyNotOpened(opening)}` };
  return { machine: undefined, replays: 0, ms: 0, loss, isElsewhere: false };
}

function trialCallOf(
  { exchange, loss }: Call,
  owner: MachineId | undefined,
  recordOf: TrafficParts['recordOf'],
): TrialCall {
  const record = recordFor(exchange, recordOf);
  const machine = record?.served;
  const isElsewhere = !loss && owner !== undefined && machine !== undefined && machine !== owner;
  return { machine, replays: record?.replays ?? 0, ms: exchange.ms, loss, isElsewhere };
}

function recordFor(
  exchange: Exchange,
  recordOf: TrafficParts['recordOf'],
): EdgeRequestRecord | undefined {
  if (exchange.kind === 'no-response') return undefined;
  return recordOf(exchange.headers['fly-request-id']?.toString() ?? '');
}

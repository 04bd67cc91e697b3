/** Delivers a request to a Machine: tries one after the other, starts them, and retries until a timeout. */
import type { Agent } from 'node:http';
import type { Clock } from '../clock.ts';
import type { EdgeErrorCode } from './records.ts';
import { arrival, type Line } from './line.ts';
import {
  candidatesFor,
  type EdgeMachine,
  type Order,
  type Reluctance,
  type Target,
} from './targets.ts';
import { sendToMachine, type DeliveryAttempt, type OutgoingRequest } from './upstream.ts';
import type { MachineId } from '../session.ts';

interface DeliveryOptions {
  readonly target: Target;
  readonly machines: () => readonly EdgeMachine[];
  readonly order: Order;
  /** Called with each Machine before it is tried. */
  readonly onTry: (machine: EdgeMachine) => void;
  /** The request in the form for this Machine. */
  readonly requestFor: (machine: EdgeMachine) => OutgoingRequest;
  readonly agentFor: (machine: EdgeMachine) => Agent;
  readonly load: MachineLoad;
  readonly lineTo: (machine: EdgeMachine) => Line;
  readonly connectTimeoutMs: number;
  /** Whether to skip Machines that stopped within the last minutes if there is another one. */
  readonly passesOverRecentlyStopped: boolean;
  /** How long to try, in ms; if undefined, until the retries are used up. */
  readonly timeoutMs: number | undefined;
  readonly retries: DeliveryRetries;
  readonly clock: Clock;
  /** Aborted when the client has disconnected. */
  readonly signal: AbortSignal;
}

/** Fly Proxy tries "up to 90" times (https://fly.io/docs/monitoring/error-codes/, PR03). */
export interface DeliveryRetries {
  readonly count: number;
  readonly delayMs: number;
}

export type Delivery =
  | { readonly kind: 'delivered'; readonly machine: EdgeMachine; readonly attempt: Delivered }
  | {
      readonly kind: 'undelivered';
      readonly reason: 'timeout' | 'retries_exhausted' | 'no_candidate';
      readonly code: EdgeErrorCode;
      readonly elapsedMs: number;
    };

type Delivered = Exclude<DeliveryAttempt, { kind: 'unreachable' }>;

/** Never rejects. If the client disconnects, it ends early, as undelivered. */
export async function deliver(options: DeliveryOptions): Promise<Delivery> {
  const { clock, signal, timeoutMs = Infinity, retries } = options;
  const startedAt = clock.monotonicMs();
  const elapsedMs = (): number => clock.monotonicMs() - startedAt;
  let failures = 0;
  for (;;) {
    const { target, order } = options;
    const found = candidatesFor(target, options.machines(), order, reluctanceOf(options));
    if (found.kind === 'none') {
      return {
        kind: 'undelivered',
        reason: 'no_candidate',
        code: found.code,
        elapsedMs: elapsedMs(),
      };
    }
    const round = await tryEach(found.machines, options, () => timeoutMs - elapsedMs());
    if (round.kind === 'delivered') return round;
    // Waiting for a free slot within a time limit does not count as a failed try.
    if (round.kind === 'unreached' || timeoutMs === Infinity) failures += 1;
    const stopped = stopReason(
      elapsedMs() >= timeoutMs,
      signal.aborted || failures > retries.count,
    );
    if (stopped) return { kind: 'undelivered', ...stopped, elapsedMs: elapsedMs() };
    await clock.sleep(Math.min(retries.delayMs, timeoutMs - elapsedMs()), signal);
  }
}

/** PM11: "The current threshold for 'recently stopped' is 5 minutes." */
const RECENTLY_MS = 5 * 60_000;

function reluctanceOf(options: DeliveryOptions): Reluctance {
  const { load, clock, passesOverRecentlyStopped } = options;
  return {
    isFull: ({ id }) => load.isFull(id),
    isPassedOver: ({ state, stoppedAt = -Infinity }) =>
      passesOverRecentlyStopped && state === 'stopped' && clock.now() - stoppedAt < RECENTLY_MS,
  };
}

type Round =
  | (Delivery & { readonly kind: 'delivered' })
  /** All Machines were at their hard limit. */
  | { readonly kind: 'full' }
  | { readonly kind: 'unreached' };

async function tryEach(
  machines: readonly EdgeMachine[],
  options: DeliveryOptions,
  remainingMs: () => number,
): Promise<Round> {
  let kind: 'full' | 'unreached' = 'full';
  for (const machine of machines) {
    const attempt = await tryMachine(machine, options, remainingMs());
    if (typeof attempt === 'object') return { kind: 'delivered', machine, attempt };
    if (attempt === 'unreached') kind = 'unreached';
  }
  return { kind };
}

function stopReason(
  isTimedOut: boolean,
  isExhausted: boolean,
): { reason: 'timeout' | 'retries_exhausted'; code: EdgeErrorCode } | undefined {
  if (isTimedOut) return { reason: 'timeout', code: 'PR03' };
  return isExhausted ? { reason: 'retries_exhausted', code: 'PR03' } : undefined;
}

/** A Machine that was unreachable or full may be tried again. */
async function tryMachine(
  machine: EdgeMachine,
  options: DeliveryOptions,
  remainingMs: number,
): Promise<Delivered | 'full' | 'unreached'> {
  if (remainingMs <= 0) return 'unreached';
  if (options.load.isFull(machine.id)) return 'full';
  options.onTry(machine);
  if (!(await isAwake(machine, options, remainingMs))) return 'unreached';
  if (!(await isReached(machine, options, remainingMs))) return 'unreached';
  const release = options.load.take(machine.id);
  if (!release) return 'full';
  const attempt = await sendToMachine(options.requestFor(machine), {
    port: machine.port,
    agent: options.agentFor(machine),
    signal: options.signal,
  });
  onEnd(attempt, release);
  if (attempt.kind === 'unreachable') return 'unreached';
  // Until the socket has a user, 'close' is enough to detect an error.
  if (attempt.kind === 'upgraded') attempt.socket.on('error', () => undefined);
  await arrival(options.lineTo(machine), options.signal);
  return attempt;
}

/** Whether bytes would reach the Machine in time. */
async function isReached(
  machine: EdgeMachine,
  { clock, signal, lineTo, connectTimeoutMs }: DeliveryOptions,
  remainingMs: number,
): Promise<boolean> {
  const line = lineTo(machine);
  if (line.state() === 'whole' && line.delayMs() === 0) return true;
  if (line.state() === 'refusing') return false;
  return isSoInTime(
    (isOver) => arrival(line, isOver).then(() => !isOver.aborted),
    Math.min(remainingMs, connectTimeoutMs),
    { clock, signal },
  );
}

/** A request holds its slot until its response has ended, an upgraded one until its socket has closed. */
function onEnd(attempt: DeliveryAttempt, end: () => void): void {
  if (attempt.kind === 'responded') attempt.response.once('close', end);
  else if (attempt.kind === 'upgraded') attempt.socket.once('close', end);
  else end();
}

async function isAwake(
  machine: EdgeMachine,
  { clock, signal }: DeliveryOptions,
  remainingMs: number,
): Promise<boolean> {
  if (machine.state === 'started') return true;
  if (machine.state === 'stopping') return false;
  return isSoInTime(
    () =>
      machine.wake().then(
        () => true,
        // The Machine reports why it can't start; here it only counts as unreachable.
        () => false,
      ),
    Math.min(remainingMs, MAX_WAKE_MS),
    { clock, signal },
  );
}

/** The outcome, or false after the timeout or if the client disconnects. */
async function isSoInTime(
  begin: (isOver: AbortSignal) => Promise<boolean>,
  timeoutMs: number,
  { clock, signal }: Pick<DeliveryOptions, 'clock' | 'signal'>,
): Promise<boolean> {
  const isOver = new AbortController();
  const either = AbortSignal.any([isOver.signal, signal]);
  const timeout = clock.sleep(timeoutMs, either).then(() => false);
  const isSo = await Promise.race([begin(either), timeout]);
  isOver.abort();
  return isSo;
}

/** Longer than any Machine should take to start. */
const MAX_WAKE_MS = 60_000;

/**
 * How many requests each Machine has at once: `hard_limit` of `[http_service.concurrency]` with
 * `type = "requests"` (https://fly.io/docs/reference/load-balancing/). Open streams and sockets count.
 */
export interface MachineLoad {
  isFull(machine: MachineId): boolean;
  /** Takes a slot, and returns a function that frees it once. Undefined if none is free. */
  take(machine: MachineId): (() => void) | undefined;
}

/** Without a limit there is always a free slot. */
export function createMachineLoad(hardLimit = Infinity): MachineLoad {
  const taken = new Map<MachineId, number>();
  const count = (machine: MachineId): number => taken.get(machine) ?? 0;
  const isFull = (machine: MachineId): boolean => count(machine) >= hardLimit;
  return {
    isFull,
    take: (machine) => {
      if (isFull(machine)) return undefined;
      taken.set(machine, count(machine) + 1);
      let isTaken = true;
      return () => {
        if (isTaken) taken.set(machine, count(machine) - 1);
        isTaken = false;
      };
    },
  };
}

/** Getting a request to a Machine: trying, waking, trying again, giving up. */
import type { Agent } from 'node:http';
import type { Clock } from '../clock.ts';
import type { EdgeErrorCode } from './errors.ts';
import { candidatesFor, type EdgeMachine, type Order, type Target } from './targets.ts';
import { sendToMachine, type Attempt, type OutgoingRequest } from './upstream.ts';

export interface DeliveryOptions {
  readonly target: Target;
  readonly machines: () => readonly EdgeMachine[];
  readonly order: Order;
  /** Called with each Machine before it is tried. */
  readonly onTry: (machine: EdgeMachine) => void;
  /** The request as this Machine is to get it. */
  readonly requestFor: (machine: EdgeMachine) => OutgoingRequest;
  readonly agentFor: (machine: EdgeMachine) => Agent;
  /** How long to try, in ms; without it until the retries are used up. */
  readonly timeoutMs: number | undefined;
  readonly retries: RetryOptions;
  readonly clock: Clock;
  /** Aborted when the client has left. */
  readonly signal: AbortSignal;
}

/** Fly Proxy tries "up to 90" times (https://fly.io/docs/monitoring/error-codes/, PR03). */
export interface RetryOptions {
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

type Delivered = Exclude<Attempt, { kind: 'unreachable' }>;

/** Never rejects. A client that has left makes it end early, as undelivered. */
export async function deliver(options: DeliveryOptions): Promise<Delivery> {
  const { clock, signal, timeoutMs = Infinity, retries } = options;
  const startedAt = clock.monotonicMs();
  const elapsedMs = (): number => clock.monotonicMs() - startedAt;
  for (let retry = 0; ; retry += 1) {
    const found = candidatesFor(options.target, options.machines(), options.order);
    if (found.kind === 'none') {
      return {
        kind: 'undelivered',
        reason: 'no_candidate',
        code: found.code,
        elapsedMs: elapsedMs(),
      };
    }
    for (const machine of found.machines) {
      const attempt = await tryMachine(machine, options, timeoutMs - elapsedMs());
      if (attempt) return { kind: 'delivered', machine, attempt };
    }
    const gaveUp = gaveUpReason(elapsedMs() >= timeoutMs, signal.aborted || retry >= retries.count);
    if (gaveUp) return { kind: 'undelivered', ...gaveUp, elapsedMs: elapsedMs() };
    await clock.sleep(Math.min(retries.delayMs, timeoutMs - elapsedMs()), signal);
  }
}

function gaveUpReason(
  isTimedOut: boolean,
  isExhausted: boolean,
): { reason: 'timeout' | 'retries_exhausted'; code: EdgeErrorCode } | undefined {
  if (isTimedOut) return { reason: 'timeout', code: 'PR03' };
  return isExhausted ? { reason: 'retries_exhausted', code: 'PR03' } : undefined;
}

/** Undefined if the Machine was not reached, and so may be tried again. */
async function tryMachine(
  machine: EdgeMachine,
  options: DeliveryOptions,
  remainingMs: number,
): Promise<Delivered | undefined> {
  options.onTry(machine);
  if (remainingMs <= 0 || !(await isAwake(machine, options, remainingMs))) return undefined;
  const attempt = await sendToMachine(options.requestFor(machine), {
    port: machine.port,
    agent: options.agentFor(machine),
    signal: options.signal,
  });
  return attempt.kind === 'unreachable' ? undefined : attempt;
}

async function isAwake(
  machine: EdgeMachine,
  { clock, signal }: DeliveryOptions,
  remainingMs: number,
): Promise<boolean> {
  if (machine.state === 'started') return true;
  if (machine.state === 'stopping') return false;
  const isOver = new AbortController();
  const timeout = clock
    .sleep(Math.min(remainingMs, MAX_WAKE_MS), AbortSignal.any([isOver.signal, signal]))
    .then(() => false);
  const woken = machine.wake().then(
    () => true,
    // Why it can't start is said by the Machine; here it is one that was not reached.
    () => false,
  );
  const isWoken = await Promise.race([woken, timeout]);
  isOver.abort();
  return isWoken;
}

/** Longer than any Machine should take to start. */
const MAX_WAKE_MS = 60_000;

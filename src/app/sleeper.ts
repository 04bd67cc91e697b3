/**
 * Suspends this Machine while nobody uses it (`SUSPEND_AFTER`):
 *
 * ```
 * awake ──unused for so long──> preparing ──all is closed──> suspending ──the clock jumps, or a second──> awake
 *   ^──used, or a peer is silent─────┘                          └──refused───────────────────────────────^
 * ```
 * Preparing: notifies the peers, pauses the life of the sessions, closes the listeners and waits until no connection
 * is open. A request that comes then is refused by the kernel; Fly Proxy tries again, which wakes the Machine.
 * Awake again: drops connections that may be dead, accepts requests, and asks the peers before the first of them
 * reaches the app. What Fly.io responds proves nothing, so this happens after a refusal and after silence, too.
 */
import type { SleepStatus } from '../admin/health.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics } from '../observability/metrics.ts';
import { AwakeTime } from './awake-time.ts';
import { messageOf } from '../errors.ts';

export interface SleeperParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'suspendEnded'>;
  readonly suspendAfterMs: number;
  /** How long no client has used this Machine, in ms. */
  readonly idleMs: () => number;
  /** Why this Machine has to stay awake now; undefined if it may sleep. */
  readonly whyAwake: () => string | undefined;
  /** Why Fly.io can't be asked. */
  readonly findProblem: () => Promise<string | undefined>;
  /** Resolves to why it failed. */
  readonly suspend: (signal: AbortSignal) => Promise<string | undefined>;
  /** Notifies the peers whether this Machine sleeps; resolves to whether all that should respond did. */
  readonly notifyPeers: () => Promise<boolean>;
  /** Resolves to whether all sessions are paused, here and on the peers; `isUsed` ends it early. */
  readonly pauseSessions: (isUsed: () => boolean) => Promise<boolean>;
  readonly resumeSessions: (sleptMs: number) => Promise<void>;
  readonly stopAccepting: () => void;
  readonly connectionCount: () => number;
  /** Rejects if a port is taken. */
  readonly acceptAgain: () => Promise<void>;
  /** Requests wait, until the returned function is called. */
  readonly holdRequests: () => () => void;
  /** Drops connections that may be dead. */
  readonly reconnect: () => void;
  /** Asks the peers which of this Machine's sessions they own now. */
  readonly askPeers: () => Promise<void>;
}

type State = SleepStatus['state'];

/** In ms. */
const CHECK_MS = 1_000;
/** How long connections may take to close. */
const CLOSE_MS = 5_000;
const CLOSE_CHECK_MS = 20;
/** After Fly.io has accepted it, a suspend begins, and a resume is noticed, within this time. */
const BEGIN_MS = 1_000;
/** How long requests wait for the peers. */
const ASK_MS = 2_000;
/** A clock that was behind after a suspend has caught up by then. */
const CLOCK_LAG_MS = 60_000;
const LISTEN_RETRY_MS = 100;
/** Between attempts that fail. */
const MAX_RETRY_MS = 3_600_000;

const USED = 'a request has come';
const NO_RESPONSE = 'a peer did not respond';
const STAYS_OPEN = 'a connection does not close';
const NOTHING_HAPPENED = 'Fly.io has accepted the request, and has not suspended this Machine';

export class Sleeper {
  readonly #parts: SleeperParts;
  readonly #stopping = new AbortController();
  #state: State = 'awake';
  #suspended = 0;
  #failed = 0;
  #failedInRow = 0;
  #lastFailure: string | undefined;
  #notBeforeMs = 0;
  #running: Promise<void> | undefined;
  #asking: Promise<void> = Promise.resolve();

  constructor(parts: SleeperParts) {
    this.#parts = parts;
  }

  /** What peers receive: it sleeps, or is about to. */
  get isAsleep(): boolean {
    return this.#state !== 'awake';
  }

  status(): SleepStatus {
    const { suspendAfterMs, idleMs } = this.#parts;
    return {
      state: this.#state,
      suspendAfterMs,
      idleMs: Math.round(idleMs()),
      suspended: this.#suspended,
      failed: this.#failed,
      hasFailed: this.#lastFailure !== undefined,
      lastFailure: this.#lastFailure,
    };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Stays awake, and opens no listener again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#asking;
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts;
    // The process that was suspended may be another one: a deploy discards its memory.
    await this.#resumeSessions(Infinity);
    while (!this.#isStopping) {
      const waitMs = this.#msUntilDue();
      if (waitMs > 0) await clock.sleep(waitMs, this.#stopping.signal);
      else await this.#sleep().catch((error: unknown) => this.#recover(error));
    }
  }

  /** A fault of a part must not leave the ports closed. */
  async #recover(error: unknown): Promise<void> {
    await this.#listenAgain();
    this.#state = 'awake';
    await this.#resumeSessions(0);
    this.#fail(messageOf(error));
  }

  get #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  #msUntilDue(): number {
    const { clock, suspendAfterMs, idleMs, whyAwake } = this.#parts;
    const leftMs = Math.max(suspendAfterMs - idleMs(), this.#notBeforeMs - clock.monotonicMs());
    if (leftMs > 0) return leftMs;
    return whyAwake() === undefined ? 0 : CHECK_MS;
  }

  async #sleep(): Promise<void> {
    const { clock, findProblem } = this.#parts;
    // First, as it costs nobody anything.
    const problem = await findProblem();
    if (problem !== undefined) {
      this.#fail(problem);
      return;
    }
    const notReady = await this.#prepare().catch(messageOf);
    if (notReady !== undefined) return this.#stayAwake(notReady);
    const awakeTime = new AwakeTime(clock);
    try {
      await this.#suspend(awakeTime);
      await this.#resumeSessions(awakeTime.sleptMs());
    } finally {
      awakeTime.stop();
    }
  }

  async #stayAwake(reason: string): Promise<void> {
    const { logger, metrics, notifyPeers } = this.#parts;
    metrics.suspendEnded('aborted');
    logger.info({ reason }, 'this Machine stays awake');
    await this.#listenAgain();
    this.#state = 'awake';
    await notifyPeers();
    await this.#resumeSessions(0);
    if (reason !== USED) this.#retryLater();
  }

  /** Resolves to why this Machine has to stay awake. */
  async #prepare(): Promise<string | undefined> {
    const { notifyPeers, pauseSessions, stopAccepting } = this.#parts;
    this.#state = 'preparing';
    if (!(await notifyPeers())) return NO_RESPONSE;
    const isPaused = await pauseSessions(() => this.#isNeeded());
    if (this.#isNeeded()) return USED;
    if (!isPaused) return NO_RESPONSE;
    stopAccepting();
    return this.#untilClosed();
  }

  #isNeeded(): boolean {
    const { idleMs, suspendAfterMs, whyAwake } = this.#parts;
    return this.#isStopping || idleMs() < suspendAfterMs || whyAwake() !== undefined;
  }

  async #untilClosed(): Promise<string | undefined> {
    const { clock, connectionCount } = this.#parts;
    const deadline = clock.monotonicMs() + CLOSE_MS;
    while (connectionCount() > 0) {
      if (this.#isNeeded()) return USED;
      if (clock.monotonicMs() >= deadline) return STAYS_OPEN;
      await clock.sleep(CLOSE_CHECK_MS, this.#stopping.signal);
    }
    return this.#isNeeded() ? USED : undefined;
  }

  async #suspend(awakeTime: AwakeTime): Promise<void> {
    const { suspend, suspendAfterMs, logger } = this.#parts;
    const { signal } = this.#stopping;
    this.#state = 'suspending';
    logger.info({ suspendAfterMs }, 'suspending this Machine: no client uses it');
    const refusal = await suspend(signal);
    if (refusal === undefined) await awakeTime.untilJump(BEGIN_MS, signal);
    await this.#wake();
    // It may have been suspended before a response that failed.
    if (refusal === undefined) await awakeTime.untilJump(CLOCK_LAG_MS, signal);
    await this.#asking;
    if (this.#isStopping) return;
    if (awakeTime.hasJumped) this.#succeed(awakeTime.sleptMs());
    else this.#fail(refusal ?? NOTHING_HAPPENED);
  }

  async #wake(): Promise<void> {
    const { clock, reconnect, holdRequests, askPeers, logger } = this.#parts;
    reconnect();
    const letThrough = holdRequests();
    await this.#listenAgain();
    this.#state = 'awake';
    if (!this.#isStopping) {
      const asked = new AbortController();
      this.#asking = askPeers().catch((error: unknown) => {
        logger.warn({ err: error }, 'could not ask the peers for their sessions');
      });
      const late = clock.sleep(ASK_MS, AbortSignal.any([asked.signal, this.#stopping.signal]));
      await Promise.race([this.#asking, late]);
      asked.abort();
    }
    letThrough();
  }

  async #listenAgain(): Promise<void> {
    const { acceptAgain, clock, logger } = this.#parts;
    for (let isReported = false; !this.#isStopping; isReported = true) {
      try {
        await acceptAgain();
        return;
      } catch (error) {
        if (!isReported)
          logger.error({ err: error }, 'could not listen again: trying until it works');
        await clock.sleep(LISTEN_RETRY_MS, this.#stopping.signal);
      }
    }
  }

  async #resumeSessions(sleptMs: number): Promise<void> {
    const { resumeSessions, logger } = this.#parts;
    try {
      await resumeSessions(sleptMs);
    } catch (error) {
      if (!this.#isStopping)
        logger.warn({ err: error }, 'could not set the end of the sessions: they live longer');
    }
  }

  #succeed(sleptMs: number): void {
    this.#suspended += 1;
    this.#failedInRow = 0;
    this.#lastFailure = undefined;
    // The request that has woken it may need a while to get here.
    this.#notBeforeMs = this.#parts.clock.monotonicMs() + this.#parts.suspendAfterMs;
    this.#parts.metrics.suspendEnded('suspended');
    this.#parts.logger.info({ sleptMs: Math.round(sleptMs) }, 'this Machine was suspended');
  }

  #fail(reason: string): void {
    this.#failed += 1;
    this.#lastFailure = reason;
    this.#parts.metrics.suspendEnded('failed');
    const retryMs = this.#retryLater();
    this.#parts.logger.warn({ reason, retryMs }, 'could not suspend this Machine');
  }

  /** Twice as late with each failure in a row. */
  #retryLater(): number {
    const { clock, suspendAfterMs } = this.#parts;
    const retryMs = Math.min(suspendAfterMs * 2 ** this.#failedInRow, MAX_RETRY_MS);
    this.#failedInRow += 1;
    this.#notBeforeMs = clock.monotonicMs() + retryMs;
    return retryMs;
  }
}

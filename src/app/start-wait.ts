/** How long requests wait for the app that `run` starts. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../observability/log.ts';
import type { StartGate } from '../proxy/start-gate.ts';

export interface StartWaitParts {
  /** Requests are held until it resolves, for an app that `run` starts. */
  readonly untilAppListens?: () => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Requests that arrive before the app go to it as they come once START_TIMEOUT_MS is over. */
export async function openWithApp(
  gate: Pick<StartGate, 'open'>,
  { startTimeoutMs, upstreamUrl }: Pick<Config, 'startTimeoutMs' | 'upstreamUrl'>,
  { untilAppListens, clock, logger }: StartWaitParts,
): Promise<void> {
  const cancel = clock.after(startTimeoutMs, () => {
    if (untilAppListens)
      logger.error(
        { startTimeoutMs, upstream: upstreamUrl.origin },
        'the app accepts no connections: requests are not held longer',
      );
    gate.open();
  });
  try {
    await untilAppListens?.();
  } finally {
    cancel();
  }
  gate.open();
}

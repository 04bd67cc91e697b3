/** Tells an operator that the app does not listen where the sidecar expects it, and what to change. */
import type { Cancel, Clock } from '../clock.ts';
import { LOOPBACK_HOST, portOf } from '../config/checks.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../observability/log.ts';
import { listeningSockets, type ListeningSocket } from './listening-sockets.ts';
import type { ProcessGroup } from './process-group.ts';
import { canConnect, hostOf } from './supervised-app.ts';

interface MisplacedAppParts {
  readonly config: Pick<Config, 'upstreamUrl'>;
  readonly clock: Clock;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** Of a place that is seen twice, one says that the app stays there. In ms. */
const LOOK_INTERVAL_MS = 1_000;

/** While the app is waited for: warns of each place where it listens instead. */
export function watchForOtherPlaces(
  processes: Pick<ProcessGroup, 'members'>,
  { config, clock, logger }: MisplacedAppParts,
): Cancel {
  return watchListeningPlaces(processes, clock, (origin) => {
    const advice = `let the app listen on PORT, which is ${portOf(config.upstreamUrl)} for it, or set UPSTREAM_URL=${origin}`;
    logger.warn(
      { listensAt: origin, expectedAt: config.upstreamUrl.origin, advice },
      'the app listens elsewhere',
    );
  });
}

/** Reports each place where the processes listen, once. */
export function watchListeningPlaces(
  processes: Pick<ProcessGroup, 'members'>,
  clock: Clock,
  onPlace: (origin: string) => void,
): Cancel {
  const reported = new Set<string>();
  let seenBefore: readonly string[] = [];
  return clock.every(LOOK_INTERVAL_MS, () => {
    const origins = listeningSockets(processes.members()).map(originOf);
    for (const origin of new Set(origins)) {
      if (!seenBefore.includes(origin) || reported.has(origin)) continue;
      reported.add(origin);
      onPlace(origin);
    }
    seenBefore = origins;
  });
}

/** Where the sidecar reaches the socket. */
function originOf({ host, port }: ListeningSocket): string {
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}`;
}

/** Before the app runs: warns of a process that has its place already. */
export async function warnIfPlaceIsTaken({
  config: { upstreamUrl },
  clock,
  logger,
}: MisplacedAppParts): Promise<void> {
  if (!LOOPBACK_HOST.test(upstreamUrl.hostname)) return;
  const { signal } = new AbortController();
  const place = { host: hostOf(upstreamUrl), port: portOf(upstreamUrl) };
  if (!(await canConnect({ ...place, clock, signal }))) return;
  const advice = 'end that process, or set UPSTREAM_URL to a free port';
  logger.error(
    { upstream: upstreamUrl.origin, advice },
    'another process listens at UPSTREAM_URL before the app has started',
  );
}

/** The reason is in the app's own output; only the app sees that a port is in use. */
export function reportEarlyExit(
  code: number,
  publicPort: number | undefined,
  { config, logger }: MisplacedAppParts,
): void {
  // A release command that has done its work, say.
  if (code === 0) {
    logger.info({ code }, 'the app exited before it accepted a connection');
    return;
  }
  const advice = `see its output; if it says that port ${publicPort} is in use: the sidecar listens there, let the app listen on PORT, which is ${portOf(config.upstreamUrl)} for it`;
  logger.error({ code, advice }, 'the app exited before it accepted a connection');
}

/** What a Machine does when it learns that a session of its own is not its own any more. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Logger } from '../observability/log.ts';
import type { Metrics, ReleaseReason } from '../observability/metrics.ts';
import type { OpenStreams } from './open-streams.ts';

export interface Release {
  /** Who owns the session now, if somebody does. */
  readonly to?: MachineId | undefined;
  readonly why: ReleaseReason;
}

/**
 * Closes the session's streams and sockets, so that their clients reconnect and are routed to the new
 * owner; finite responses finish. To be called once a release: it logs one line and counts one.
 */
export type LetGo = (key: SessionKey, release: Release) => void;

export interface LetGoParts {
  readonly streams: Pick<OpenStreams, 'release'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly metrics: Pick<Metrics, 'sessionReleased'>;
}

export function createLetGo({ streams, logger, metrics }: LetGoParts): LetGo {
  return (session, { to: owner, why }) => {
    const fields = { session, owner, why, streams: streams.release(session, why) };
    metrics.sessionReleased(why);
    // The others are an operator's own doing.
    if (why === 'outranked') logger.warn(fields, OWNED_BY_ANOTHER);
    else logger.info(fields, why === 'moved' ? OWNED_BY_ANOTHER : DELETED);
  };
}

const OWNED_BY_ANOTHER = 'session released: another Machine owns it';
const DELETED = 'session released: it was deleted';

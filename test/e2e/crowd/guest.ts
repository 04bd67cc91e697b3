/** One client of the crowd: it calls repeatedly and records the results. */
import { systemClock } from '../../../src/clock.ts';
import { journalNow } from '../apps/journal.ts';
import type { Client, Outcome, OutcomeKind } from './outcome.ts';

/** One call, or the opening of a session. */
export interface Visit {
  readonly protocol: string;
  readonly outcome: OutcomeKind;
  /** The session that was called, or that responded; undefined while there is none. */
  readonly session: string | undefined;
  /** When the result was known, in ms on the clock of the journal. */
  readonly at: number;
  readonly tookMs: number;
  /** Why the call was aborted, or what is wrong with its response. */
  readonly detail: string | undefined;
}

interface CrowdClientOptions {
  readonly protocol: string;
  readonly client: Client;
  readonly random: () => number;
  /** Aborted when no more faults follow. */
  readonly isOver: AbortSignal;
  readonly onVisit: (visit: Visit) => void;
  /** A session is open: called at least once, unless none ever opens. */
  readonly onArrived: () => void;
}

/** The clients start spread over this time, in ms. */
const ARRIVAL_MS = 5_000;
/** Between two calls, in ms: a crowd must leave CPU time for the Machines on a small computer. */
const MIN_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 4_000;
/** The wait after a 503 and after a cut connection, in ms; a sidecar requests as much. */
const RETRY_MS = 1_000;
/** So many attempts that only a permanent failure needs more. */
const MAX_LAST_TRIES = 180;

/**
 * Calls until the end is signaled, and then until one more response, in this session or a new one.
 */
export async function stay(options: CrowdClientOptions): Promise<void> {
  const { protocol, client, random, isOver } = options;
  const memory = createMemory();
  let isOpen = false;
  let lastTries = 0;
  await systemClock.sleep(random() * ARRIVAL_MS, isOver);
  for (;;) {
    const wasOver = isOver.aborted;
    const call = { protocol, session: isOpen ? memory.session() : undefined, from: journalNow() };
    const outcome = memory.check(await (isOpen ? client.call() : client.open()));
    options.onVisit(visitOf(call, outcome));
    if (outcome.kind === 'answered') {
      isOpen = true;
      options.onArrived();
    }
    if (outcome.kind === 'gone') isOpen = false;
    if (wasOver && outcome.kind === 'answered') break;
    if (wasOver) lastTries += 1;
    if (lastTries === MAX_LAST_TRIES) {
      const never: Outcome = { kind: 'wrong', what: 'no response until the end' };
      options.onVisit(visitOf(call, never));
      break;
    }
    const pauseMs = MIN_PAUSE_MS + random() * (MAX_PAUSE_MS - MIN_PAUSE_MS);
    if (outcome.kind === 'answered') await systemClock.sleep(pauseMs, isOver);
    else if (outcome.kind !== 'gone') await systemClock.sleep(RETRY_MS);
  }
  client.leave();
}

/** Knows the process of a session, and its expected count. */
function createMemory(): {
  session(): string | undefined;
  check(outcome: Outcome): Outcome;
} {
  let known: (Outcome & { kind: 'answered' }) | undefined;
  /**
   * Calls for which it is unknown whether the app has counted them. A call that waits for a frozen
   * sidecar may be counted after a later one.
   */
  let lost = 0;

  function lostAfter({ session, counted }: Outcome & { kind: 'answered' }): number {
    if (session !== known?.session) return 0;
    return Math.max(0, lost - (counted.count - known.counted.count - 1));
  }

  function whatIsWrong(outcome: Outcome & { kind: 'answered' }): string | undefined {
    if (outcome.session !== known?.session) return undefined;
    const { machine, pid, count } = outcome.counted;
    const before = known.counted;
    if (machine !== before.machine || pid !== before.pid) {
      return `the session of ${before.machine} (${before.pid}) was served by ${machine} (${pid})`;
    }
    const isCounted = count > before.count && count <= before.count + 1 + lost;
    return isCounted ? undefined : `${count} came after ${before.count}, ${lost} calls lost`;
  }

  return {
    session: () => known?.session,
    check: (outcome) => {
      if (outcome.kind !== 'answered') {
        lost += 1;
        return outcome;
      }
      const what = whatIsWrong(outcome);
      lost = lostAfter(outcome);
      known = outcome;
      return what === undefined ? outcome : { kind: 'wrong', what };
    },
  };
}

interface Call {
  readonly protocol: string;
  readonly session: string | undefined;
  readonly from: number;
}

function visitOf({ protocol, session, from }: Call, outcome: Outcome): Visit {
  const at = journalNow();
  return {
    protocol,
    outcome: outcome.kind,
    session: 'session' in outcome ? outcome.session : session,
    at,
    tookMs: at - from,
    detail: detailOf(outcome),
  };
}

function detailOf(outcome: Outcome): string | undefined {
  if (outcome.kind === 'cut') return outcome.how;
  return outcome.kind === 'wrong' ? outcome.what : undefined;
}

/** One client of the crowd, which calls again and again, and what it gets to hear. */
import { systemClock } from '../../../src/clock.ts';
import { journalNow } from '../apps/journal.ts';
import type { Client, Outcome, OutcomeKind } from './outcome.ts';

/** One call, or the opening of a session. */
export interface Visit {
  readonly protocol: string;
  readonly outcome: OutcomeKind;
  /** The one that was called, or has answered; undefined while there is none yet. */
  readonly session: string | undefined;
  /** When it was known, in ms on the clock of the journal. */
  readonly at: number;
  readonly tookMs: number;
  /** What broke off the call, or is wrong with its answer. */
  readonly detail: string | undefined;
}

export interface GuestOptions {
  readonly protocol: string;
  readonly client: Client;
  readonly random: () => number;
  /** Aborted when nothing more happens to the Machines. */
  readonly isOver: AbortSignal;
  readonly onVisit: (visit: Visit) => void;
  /** A session is open: called at least once, unless there never is one. */
  readonly onArrived: () => void;
}

/** They do not come all at once, in ms. */
const ARRIVAL_MS = 5_000;
/** Between two calls, in ms: a crowd has to leave a small computer time for the Machines. */
const MIN_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 4_000;
/** What is waited after "later" and after a cut, in ms; a sidecar asks for as much. */
const RETRY_MS = 1_000;
/** So often that only what never comes needs more. */
const MAX_LAST_TRIES = 180;

/** Calls until all is over, and then until there is one more answer, of this session or a new one. */
export async function stay(options: GuestOptions): Promise<void> {
  const { protocol, client, random, isOver } = options;
  const memory = createMemory();
  let isOpen = false;
  let lastTries = 0;
  await systemClock.sleep(random() * ARRIVAL_MS, isOver);
  for (;;) {
    const wasOver = isOver.aborted;
    const call = { protocol, session: isOpen ? memory.session() : undefined, from: journalNow() };
    const outcome = memory.judge(await (isOpen ? client.call() : client.open()));
    options.onVisit(visitOf(call, outcome));
    if (outcome.kind === 'answered') {
      isOpen = true;
      options.onArrived();
    }
    if (outcome.kind === 'gone') isOpen = false;
    if (wasOver && outcome.kind === 'answered') break;
    if (wasOver) lastTries += 1;
    if (lastTries === MAX_LAST_TRIES) {
      const never: Outcome = { kind: 'wrong', what: 'there never was an answer again' };
      options.onVisit(visitOf(call, never));
      break;
    }
    const pauseMs = MIN_PAUSE_MS + random() * (MAX_PAUSE_MS - MIN_PAUSE_MS);
    if (outcome.kind === 'answered') await systemClock.sleep(pauseMs, isOver);
    else if (outcome.kind !== 'gone') await systemClock.sleep(RETRY_MS);
  }
  client.leave();
}

/** Knows which process a session is in, and what it must have counted. */
function createMemory(): {
  session(): string | undefined;
  judge(outcome: Outcome): Outcome;
} {
  let known: (Outcome & { kind: 'answered' }) | undefined;
  /**
   * Calls of which nobody knows whether the app has counted them. What waits for a sidecar that stands
   * still may be counted after a later call.
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
    judge: (outcome) => {
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

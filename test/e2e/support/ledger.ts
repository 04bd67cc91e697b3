/**
 * The records of each request from three sides, by its `Fly-Request-Id`: the edge's record, the log
 * lines of the sidecars, and the apps' journals.
 */
import { isIdempotent } from '../../../src/http/pipe-owner.ts';
import type { MachineId } from '../../../src/session.ts';
import type { ProcessName } from '../../../src/simulator/machine.ts';
import type { EdgeRequestRecord } from '../../../src/simulator/records.ts';
import { parseJournalLine, type JournalEntry } from '../apps/journal.ts';
import { shortened } from './shortened.ts';

/** A sidecar's line for a request; it is written once the response has been sent completely. */
export interface Decision {
  readonly machine: MachineId;
  readonly requestId: string;
  readonly method: string;
  /** Ids in it are masked. */
  readonly path: string;
  readonly decision: 'local' | 'replay' | 'elsewhere' | 'forward' | 'refuse';
  readonly why: string;
  readonly status: number;
}

/** A Machine has lost its memory, in ms on the clock of the journal. */
export interface Loss {
  readonly machine: MachineId;
  /** From here on its sessions may be gone. */
  readonly from: number;
  /** Sessions that were opened before this are gone. */
  readonly until: number;
}

export interface Ledger {
  readonly records: readonly EdgeRequestRecord[];
  readonly decisions: readonly Decision[];
  noteRecord(record: EdgeRequestRecord): void;
  noteLine(machine: MachineId, source: ProcessName, line: string): void;
  noteLoss(loss: Loss): void;
  /**
   * When the app ended the session, or lost it with its memory; undefined while neither has
   * happened.
   */
  endOf(session: string): number | undefined;
  /** The requests whose lines are still incomplete; a request that was cut may have none. */
  incomplete(): string[];
  /** How many decisions matched. */
  count(like: Partial<Pick<Decision, 'decision' | 'why'>>): number;
  /**
   * Errors that ended a sidecar, and broken guarantees of any request; none: all checks pass. Where
   * sessions were lost, sidecars may report so.
   */
  faults(sessions?: 'all-live' | 'some-lost'): string[];
}

const CLIENT_LEFT = 499;

type Noted<Kind extends JournalEntry['kind']> = JournalEntry & { kind: Kind } & {
  readonly machine: MachineId;
};

export function createLedger(): Ledger {
  const records: EdgeRequestRecord[] = [];
  const decisions: Decision[] = [];
  const requests: Noted<'request'>[] = [];
  const openings = new Map<string, Noted<'opened' | 'ended'>>();
  const endings = new Map<string, Noted<'opened' | 'ended'>>();
  const decisionsById = new Map<string, Decision[]>();
  const losses: Loss[] = [];
  const crashes: string[] = [];

  function noteJournal(machine: MachineId, entry: JournalEntry): void {
    if (entry.kind === 'request') requests.push({ ...entry, machine });
    // When the client creates the id, a second opening belongs to a Machine that the request should
    // not have reached.
    else if (entry.kind === 'ended') endings.set(entry.session, { ...entry, machine });
    else if (!openings.has(entry.session)) openings.set(entry.session, { ...entry, machine });
  }

  function noteDecision(decision: Decision): void {
    decisions.push(decision);
    const way = decisionsById.get(decision.requestId);
    if (way) way.push(decision);
    else decisionsById.set(decision.requestId, [decision]);
  }

  function decisionsOf(requestId: string): readonly Decision[] {
    return decisionsById.get(requestId) ?? [];
  }

  function endOf(session: string): number | undefined {
    const opening = openings.get(session);
    const ending = endings.get(session)?.at;
    if (!opening) return ending;
    const lost = losses
      .filter(({ machine, until }) => machine === opening.machine && until >= opening.at)
      .map(({ from }) => Math.max(from, opening.at));
    const ends = ending === undefined ? lost : [ending, ...lost];
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /**
   * A request for an ended session may arrive anywhere; a session that was never opened has no
   * owner.
   */
  function isMisrouted({ requestId, session, machine, isKnown, at }: Noted<'request'>): boolean {
    const opening = openings.get(session);
    if (!opening || at <= opening.at || at >= (endOf(session) ?? Infinity)) return false;
    if (opening.machine === machine && isKnown) return false;
    return !wasDoubted(requestId) && !diedUnlogged(requestId, machine, at);
  }

  function ageOf({ session, at }: Noted<'request'>): string {
    const opening = openings.get(session);
    if (!opening) return 'its session';
    const age = Math.round(at - opening.at);
    return `its session, which ${opening.machine} had opened ${age} ms before ${Math.round(at)}`;
  }

  /** When the hint's Machine is gone, the whole may be a client-minted id: `user~bob`. */
  function showsHint({ session, at }: Noted<'request'>): boolean {
    const [id = '', hint] = session.split('~', 2);
    return hint !== undefined && at < (endOf(id) ?? Infinity);
  }

  /** The sidecar ended with its Machine before it could log its decision. */
  function diedUnlogged(requestId: string, machine: MachineId, at: number): boolean {
    const isLogged = decisionsOf(requestId).some((line) => line.machine === machine);
    return !isLogged && losses.some((loss) => loss.machine === machine && loss.until >= at);
  }

  /**
   * While a peer is unresponsive the app here receives the request, as it may have the session; its
   * "not found" is replaced by a 503.
   */
  function wasDoubted(requestId: string): boolean {
    return decisionsOf(requestId).some(
      ({ why, status }) => why === 'peers-inconclusive' && status === 503,
    );
  }

  /**
   * The requests that are among these more than once. Not those that the edge has sent more often
   * than it records: after a connection was cut it repeats idempotent requests (RFC 9110 §9.2.2). A sidecar does so
   * too with a forward, once (`src/http/README.md`, "When a request is sent twice").
   */
  function repeated(items: readonly Identified[]): string[] {
    return [...countById(items)]
      .filter(([id, count]) => count > 1 && !wasSentAgain(id) && !wasForwardedAgain(id))
      .map(([id]) => id);
  }

  /**
   * To a Machine that logs it, or to one that ended before it could, and whose forward has arrived.
   * Counted by each Machine: the missing lines of one must not make up for another.
   */
  function wasSentAgain(requestId: string): boolean {
    const lines = decisionsOf(requestId);
    const hops = countBy(
      recordsOf(requestId).flatMap((record) => record.hops.map(({ machine }) => machine)),
    );
    const fromEdge = lines.filter(({ why }) => !FROM_PEERS.has(why));
    const handedOut = countBy(fromEdge.map(({ machine }) => machine));
    const isForwarded = fromEdge.length < lines.length;
    return (
      (isForwarded && !lines.some(isForward)) ||
      [...handedOut].some(([machine, count]) => count > (hops.get(machine) ?? 0))
    );
  }

  /** One forward that its Machine has received twice, of a method that may be repeated. */
  function wasForwardedAgain(requestId: string): boolean {
    const lines = decisionsOf(requestId);
    const [received, again, ...more] = lines.filter(({ why }) => FROM_PEERS.has(why));
    return (
      received?.machine === again?.machine &&
      more.length === 0 &&
      lines.filter(isForward).length === 1 &&
      lines.every(({ method }) => isIdempotent(method))
    );
  }

  function recordsOf(requestId: string): readonly EdgeRequestRecord[] {
    return records.filter((record) => record.requestId === requestId);
  }

  function wayOf(requestId: string): string {
    const lines = decisionsOf(requestId).map(
      ({ method, machine, decision, why, status }) =>
        `${method} ${decision} (${why}) ${status} at ${machine}`,
    );
    const hops = recordsOf(requestId).flatMap((record) => record.hops);
    const edgeRecord = hops.map(({ machine, how }) => `${how} to ${machine}`);
    return `${lines.join(', ')}; the edge: ${edgeRecord.join(', ')}`;
  }

  return {
    records,
    decisions,
    noteRecord: (record) => void records.push(record),
    noteLine: (machine, source, line) => {
      const entry = source === 'app' ? parseJournalLine(line) : undefined;
      if (entry) noteJournal(machine, entry);
      if (source === 'sidecar' && line.includes('"msg":"request"')) {
        noteDecision(JSON.parse(line) as Decision);
      }
      if (source === 'sidecar' && line.includes('"level":60')) crashes.push(line);
    },
    noteLoss: (loss) => void losses.push(loss),
    endOf,
    incomplete: () => {
      const lines = new Set(decisions.map(({ requestId, machine }) => requestId + machine));
      return records
        .filter(({ status, error }) => status !== CLIENT_LEFT && error === undefined)
        .filter(({ requestId, hops }) =>
          hops.some(({ machine }) => !lines.has(requestId + machine)),
        )
        .map(({ requestId, status }) => `${requestId} (${status})`);
    },
    count: (like) =>
      decisions.filter(
        ({ decision, why }) =>
          decision === (like.decision ?? decision) && why === (like.why ?? why),
      ).length,
    faults: (sessions = 'all-live') => {
      const found: (readonly [what: string, requestIds: readonly string[]])[] = [
        ...requests
          .filter(isMisrouted)
          .map(
            (requested) =>
              [`reached a Machine without ${ageOf(requested)}`, [requested.requestId]] as const,
          ),
        ['sent a hint to the app', idsOf(requests.filter(showsHint))],
        ['reached an app twice', repeated(requests)],
        ['was replayed twice', idsOf(records.filter(({ replays }) => replays > 1))],
        ['was to be replayed twice', repeated(decisions.filter(isReplay))],
        ['was forwarded twice', repeated(decisions.filter(isForward))],
        ...(sessions === 'some-lost'
          ? []
          : [['got a permanent error', idsOf(decisions.filter(isPermanentError))] as const]),
      ];
      const broken = found.flatMap(([what, ids]) => ids.map((id) => `${id} ${what}: ${wayOf(id)}`));
      return shortened([...crashes, ...broken]);
    },
  };
}

/** Why a request from a peer is served or rejected. */
export const FROM_PEERS: ReadonlySet<string> = new Set(['peer-hop', 'moved']);

function isReplay({ decision }: Decision): boolean {
  return decision === 'replay' || decision === 'elsewhere';
}

function isForward({ decision }: Decision): boolean {
  return decision === 'forward';
}

/** It makes the client discard its session. */
function isPermanentError({ decision, status }: Decision): boolean {
  return decision === 'refuse' && status === 404;
}

interface Identified {
  readonly requestId: string;
}

function idsOf(items: readonly Identified[]): string[] {
  return items.map(({ requestId }) => requestId);
}

function countById(items: readonly Identified[]): ReadonlyMap<string, number> {
  return countBy(idsOf(items));
}

function countBy(texts: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}

/** Compares the log lines of the sidecars with the requests and responses of the clients. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Status } from '../ledger.ts';

/** The log of one sidecar. */
export interface RequestLog {
  readonly machine: string;
  /** Lines about requests, by request id. */
  readonly requests: ReadonlyMap<string, readonly RequestEntry[]>;
  readonly requestCount: number;
  /** Lines of the level "error" and above, and lines that are not JSON. */
  readonly errors: readonly string[];
  /** Lines of the level "warn", by their message. */
  readonly warnings: ReadonlyMap<string, number>;
  /** Requests by their decision. */
  readonly decisions: ReadonlyMap<string, number>;
}

export interface RequestEntry {
  readonly status: number;
  readonly isForward: boolean;
  readonly isElsewhere: boolean;
}

const WARN = 40;
const ERROR = 50;

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly requestId?: string;
  readonly status?: number;
  readonly decision?: string;
}

export async function readRequestLog(machine: string, file: string): Promise<RequestLog> {
  const requests = new Map<string, RequestEntry[]>();
  const warnings = new Map<string, number>();
  const decisions = new Map<string, number>();
  const errors: string[] = [];
  let requestCount = 0;
  for await (const text of createInterface({ input: createReadStream(file) })) {
    const line = parseLine(text);
    if (!line || line.level >= ERROR) errors.push(text);
    else if (line.level >= WARN) countOne(warnings, line.msg);
    if (line?.msg !== 'request') continue;
    requestCount += 1;
    const { requestId = '', status = 0, decision = '' } = line;
    countOne(decisions, decision);
    const entry = {
      status,
      isForward: decision === 'forward',
      isElsewhere: decision === 'elsewhere',
    };
    requests.set(requestId, [...(requests.get(requestId) ?? []), entry]);
  }
  return { machine, requests, requestCount, errors, warnings, decisions };
}

function countOne(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

function parseLine(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line;
  } catch {
    // The caller reports text that is not a line of the log.
    return undefined;
  }
}

export interface Sent {
  readonly requests: ReadonlyMap<string, Status>;
  /** Requests without an id, which may or may not have a line. */
  readonly malformed: number;
}

/**
 * Faults in the log of one Machine, a sentence each: a request with a response has one line with
 * the status that its client received, any other one at most; a forward adds one where it arrives.
 */
export function faultsOf(
  log: RequestLog,
  sent: Sent,
  otherLogs: readonly RequestLog[],
): readonly string[] {
  const faults: string[] = [];
  for (const [id, status] of sent.requests) {
    const fault = faultOf(log.requests.get(id) ?? [], status, forwardsOf(id, otherLogs));
    if (fault !== undefined) faults.push(`${log.machine} ${id}: ${fault}`);
  }
  const unknown = [...log.requests].filter(
    ([id, lines]) => !sent.requests.has(id) && lines.length > forwardsOf(id, otherLogs),
  );
  const unknownCount = unknown.reduce((sum, [, lines]) => sum + lines.length, 0);
  if (unknownCount > sent.malformed) {
    const shown = unknown.slice(0, 5).map(([id]) => id);
    faults.push(
      `${log.machine}: ${unknownCount} lines without a client's request (${shown.join(', ')}), ` +
        `and ${sent.malformed} malformed requests were sent`,
    );
  }
  return faults;
}

function faultOf(
  lines: readonly RequestEntry[],
  status: Status,
  forwards: number,
): string | undefined {
  const seen = lines.map((line) => line.status).join(', ');
  if (lines.length > 1 + forwards) {
    return `${lines.length} lines (${seen}), ${forwards} forwards to it`;
  }
  if (status === undefined) return undefined;
  if (lines.length === 0) return `response ${status}, and no line`;
  return lines.some((line) => line.status === status)
    ? undefined
    : `response ${status}, and the line has ${seen}`;
}

function forwardsOf(id: string, logs: readonly RequestLog[]): number {
  return logs.reduce(
    (sum, { requests }) =>
      sum + (requests.get(id)?.filter(({ isForward }) => isForward).length ?? 0),
    0,
  );
}

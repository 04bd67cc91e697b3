/** What an app reports to the test: one line of its output for each event. */
import type { IncomingMessage } from 'node:http';

/** `at`: in ms, on the one clock that all processes of this computer share. */
export type JournalEntry = { readonly at: number } & (
  | { readonly kind: 'opened' | 'ended'; readonly session: string }
  /** A request that named a session; `isKnown`: this process has it. */
  | {
      readonly kind: 'request';
      readonly requestId: string;
      readonly session: string;
      readonly isKnown: boolean;
    }
);

const MARK = '@journal ';

export function noteOpened(session: string): void {
  write({ kind: 'opened', session, at: journalNow() });
}

export function noteEnded(session: string): void {
  write({ kind: 'ended', session, at: journalNow() });
}

export function noteRequest(request: IncomingMessage, session: string, isKnown: boolean): void {
  const requestId = request.headers['fly-request-id']?.toString() ?? '';
  write({ kind: 'request', requestId, session, isKnown, at: journalNow() });
}

/** Undefined for every other line. */
export function parseJournalLine(line: string): JournalEntry | undefined {
  if (!line.startsWith(MARK)) return undefined;
  return JSON.parse(line.slice(MARK.length)) as JournalEntry;
}

function write(entry: JournalEntry): void {
  process.stdout.write(`${MARK}${JSON.stringify(entry)}\n`);
}

/** In ms, on the one clock that all processes of this computer share. */
export function journalNow(): number {
  return performance.timeOrigin + performance.now();
}

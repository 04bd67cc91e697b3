/** What the app reports to the test: one line of its output for each request that it has run. */
import type { IncomingMessage } from 'node:http';

export interface Run {
  readonly requestId: string;
  readonly machine: string;
  readonly outcome: 'opened' | 'read' | 'replayed' | 'wrote';
}

const MARK = '@run ';

export function noteRun({ headers }: IncomingMessage, outcome: Run['outcome']): void {
  const run: Run = {
    requestId: headers['fly-request-id']?.toString() ?? '',
    machine: process.env.FLY_MACHINE_ID ?? '',
    outcome,
  };
  process.stdout.write(`${MARK}${JSON.stringify(run)}\n`);
}

/** Undefined for every other line. */
export function parseRunLine(line: string): Run | undefined {
  if (!line.startsWith(MARK)) return undefined;
  return JSON.parse(line.slice(MARK.length)) as Run;
}

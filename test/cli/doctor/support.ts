/** `fly-affinity doctor` within this process, and its output. */
import { Readable } from 'node:stream';
import { execute } from '../../../src/cli/doctor.ts';
import { systemClock } from '../../../src/clock.ts';
import type { Environment } from '../../../src/config/config.ts';
import { createSink } from '../in-process.ts';

export interface Ran {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

export async function runDoctor(args: readonly string[], env: Environment): Promise<Ran> {
  const [stdout, stderr] = [createSink(), createSink()];
  const parts = { env, clock: systemClock, random: Math.random };
  const stdin = Readable.from([]);
  const code = await execute(args, { ...parts, stdin, stdout, stderr });
  return { code, output: stdout.text(), errors: stderr.text() };
}

interface Report {
  readonly ok: boolean;
  readonly findings: readonly {
    readonly group: string;
    readonly level: string;
    readonly what: string;
  }[];
}

/** `level: sentence` of all findings in a group of a report in JSON. */
export function findingsIn({ output }: Pick<Ran, 'output'>, group: string): string[] {
  const { findings } = JSON.parse(output) as Report;
  return findings
    .filter((finding) => finding.group === group)
    .map(({ level, what }) => `${level}: ${what}`);
}

/** Collects the changes of a file that fix its findings. */
import { withChanges, type Change } from './change.ts';
import { readFlyValues, type FlyToml } from './fly-toml.ts';
import type { Finding } from './report.ts';

/** A change may bring a finding of its own: a volume, for a strategy that can't have one. */
const MAX_ROUNDS = 5;

interface CollectedFixes {
  /** Those it was given, and those that the findings name. */
  readonly changes: readonly Change[];
  /** What no change fixes. */
  readonly findings: readonly Finding[];
}

/** `check`: finds what is wrong with a file. */
export function collectFixes(
  values: Readonly<Record<string, unknown>>,
  given: readonly Change[],
  check: (toml: FlyToml) => readonly Finding[],
): CollectedFixes {
  const changes = [...given];
  for (let round = 1; ; round++) {
    const findings = check(readFlyValues(withChanges(values, changes)));
    const fixes = findings.flatMap((finding) => ('fix' in finding ? (finding.fix ?? []) : []));
    if (fixes.length === 0 || round > MAX_ROUNDS) return { changes, findings };
    changes.push(...fixes);
  }
}

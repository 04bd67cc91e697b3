/**
 * How the schema of a database in use is migrated: the decisions, the same for every database. Each
 * database has a loop of its own around them, because one is asynchronous and the other is not:
 *
 *     check ─ a step to take ─> lock, check again, take it, record it, commit ─> check
 *            ├ none ─> done: the version is known, or newer and compatible
 *            └ newer and incompatible ─> rejected
 *
 * Any number of processes may start at once: each step is taken once, because each checks again
 * under the lock. Migrations only go forward. A released step never changes, and a new step must
 * leave the schema usable by the sidecars that still run during a deploy: a new column has a
 * default, and statements name their columns.
 */
import { StoreError } from './store.ts';

export interface MigrationStep {
  readonly sql: string;
  /** The lowest version whose sidecars still understand the schema after this step. */
  readonly oldestReader: number;
}

/** As recorded in the database. */
export interface Schema {
  /** The number of steps taken; 0 for an empty database. */
  readonly version: number;
  readonly oldestReader: number;
}

export interface NextStep {
  readonly sql: string;
  /** What to record with it. */
  readonly becomes: Schema;
}

/**
 * The next step from `found`; undefined if there is none. Throws a `fatal` {@link StoreError} if
 * this version of fly-affinity can't use what it found.
 */
export function nextStep(found: Schema, steps: readonly MigrationStep[]): NextStep | undefined {
  if (found.version > steps.length && found.oldestReader > steps.length) {
    throw new StoreError(
      'fatal',
      `its schema has version ${found.version}, and this fly-affinity supports version ` +
        `${steps.length} at most; use a newer fly-affinity`,
    );
  }
  const step = steps[found.version];
  if (step === undefined) return undefined;
  const version = found.version + 1;
  // A version that an earlier step excluded stays excluded.
  const oldestReader = Math.max(found.oldestReader, step.oldestReader);
  return { sql: step.sql, becomes: { version, oldestReader } };
}

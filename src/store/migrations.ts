/**
 * How the schema of a database that is in use is brought up to date: what is decided, the same for
 * every database. Each of them has a loop of its own around it, as one waits and the other does not:
 *
 *     look ─ a step to take ─> lock, look again, take it, record it, commit ─> look
 *          ├ none ─> done: it is as we know it, or newer in a way that leaves us as we are
 *          └ a newer one, made for newer sidecars only ─> refused
 *
 * Of any number of simultaneous starters one takes each step, as each looks again under the lock.
 * Forward only. A step that was released is never changed, and the next one is one that the sidecars
 * beside us survive during a deploy: a new column has a default, and statements name their columns.
 */
import { StoreError } from './store.ts';

export interface MigrationStep {
  readonly sql: string;
  /** The lowest version whose sidecars still understand the schema after this step. */
  readonly oldestReader: number;
}

/** As recorded in the database. */
export interface Schema {
  /** How many steps were taken; 0 for an empty database. */
  readonly version: number;
  readonly oldestReader: number;
}

export interface NextStep {
  readonly sql: string;
  /** What is to be recorded with it. */
  readonly becomes: Schema;
}

/**
 * What leads from `found` one step further; undefined if nothing is to be done. Throws a `fatal`
 * {@link StoreError} if this version of fly-affinity can't use what it found.
 */
export function nextStep(found: Schema, steps: readonly MigrationStep[]): NextStep | undefined {
  if (found.version > steps.length && found.oldestReader > steps.length) {
    throw new StoreError(
      'fatal',
      `its schema has version ${found.version}, and this version of fly-affinity knows version ` +
        `${steps.length} at most; a newer fly-affinity can use it`,
    );
  }
  const step = steps[found.version];
  if (step === undefined) return undefined;
  const version = found.version + 1;
  // Who was left behind by an earlier step stays behind.
  const oldestReader = Math.max(found.oldestReader, step.oldestReader);
  return { sql: step.sql, becomes: { version, oldestReader } };
}

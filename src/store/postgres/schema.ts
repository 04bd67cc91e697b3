/** The schema of the Postgres database, as a list of migration steps. */
import { nextStep, type MigrationStep, type Schema } from '../migrations.ts';
import type { PostgresPool, Query, PostgresRow } from './pool.ts';
import { parseMachineId, parseSessionKey, type Binding } from '../../session.ts';
import { POSTGRES_ORIGINS } from './statements.ts';
import type { Outcome, Write } from '../rules.ts';
import { StoreError } from '../store.ts';

/**
 * The clean-up and the eviction use the index on the expiry, which makes every touch write to both
 * indexes (https://www.postgresql.org/docs/current/storage-hot.html): a touch pays that once in a
 * tenth of a session's time to live, while a scan of the table would burden every clean-up. Touches
 * leave dead row versions, so a vacuum runs earlier than by default.
 */
export const POSTGRES_STEPS: readonly MigrationStep[] = [
  {
    oldestReader: 1,
    sql: `
  CREATE TABLE fly_affinity_migrations (
    version integer PRIMARY KEY,
    oldest_reader integer NOT NULL,    -- the lowest version that still understands it
    applied_at timestamptz NOT NULL DEFAULT now()
  );

  CREATE TABLE fly_affinity_sessions (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    machine text NOT NULL,
    origin smallint NOT NULL,          -- 0 learned, 1 adopted, 2 copied
    generation bigint NOT NULL,
    created_at bigint NOT NULL,        -- ms since the epoch, by the clock of the database
    expires_at bigint NOT NULL,
    PRIMARY KEY (namespace, key)
  ) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

  CREATE INDEX fly_affinity_sessions_by_expiry
    ON fly_affinity_sessions (namespace, origin, expires_at);
  `,
  },
];

export const POSTGRES_SCHEMA_VERSION = POSTGRES_STEPS.length;

/** "FlyA" in ASCII: avoids the locks of other programs in the database. */
export const LOCK_CLASS = 0x466c7941;
const MIGRATION_LOCK = 0;

/**
 * Migrates the database to {@link POSTGRES_SCHEMA_VERSION}, or leaves a newer compatible one as it
 * is. Rejects with a `fatal` {@link StoreError} for an incompatible one, and with pg's errors.
 */
export async function migratePostgres(pool: PostgresPool, steps = POSTGRES_STEPS): Promise<void> {
  const isDone = async (): Promise<boolean> =>
    nextStep(await pool.transaction(look), steps) === undefined;
  while (!(await isDone())) {
    await pool.transaction((query) => takeNextStep(query, steps));
  }
}

async function takeNextStep(query: Query, steps: readonly MigrationStep[]): Promise<void> {
  await query('SELECT pg_advisory_xact_lock($1, $2)', [LOCK_CLASS, MIGRATION_LOCK]);
  const next = nextStep(await look(query), steps);
  // None if another process was faster.
  if (next === undefined) return;
  const { version, oldestReader } = next.becomes;
  await query(next.sql);
  await query('INSERT INTO fly_affinity_migrations (version, oldest_reader) VALUES ($1, $2)', [
    version,
    oldestReader,
  ]);
}

/**
 * Does not use `to_regclass`, which may have cached, from before another process's step, that the
 * table does not exist: a query of a catalog sees the current state.
 */
const HAS_TABLE = `
  SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class
    WHERE relname = 'fly_affinity_migrations' AND pg_catalog.pg_table_is_visible(oid)
  ) AS is_there`;
const LATEST =
  'SELECT version, oldest_reader FROM fly_affinity_migrations ORDER BY version DESC LIMIT 1';

async function look(query: Query): Promise<Schema> {
  const [table] = await query(HAS_TABLE);
  const [latest] = table?.is_there === true ? await query(LATEST) : [];
  return {
    version: Number(latest?.version ?? 0),
    oldestReader: Number(latest?.oldest_reader ?? 0),
  };
}

/* Converts rows of Postgres to bindings and outcomes, in this process's clock. */

/** The clock of a suspended Machine may be wrong, so only durations are transferred. */
export function toBinding(row: PostgresRow, now: number): Binding {
  const serverNow = Number(row.now);
  const key = parseSessionKey(String(row.key));
  const machine = parseMachineId(String(row.machine));
  if (key === undefined || machine === undefined) {
    throw new StoreError(
      'fatal',
      'a row of fly_affinity_sessions is not a valid binding; check that no other program writes there',
    );
  }
  return {
    key,
    machine,
    // A newer fly-affinity in the fleet may write more origins; the weakest is the safe choice.
    origin: POSTGRES_ORIGINS[Number(row.origin)] ?? 'copied',
    generation: Number(row.generation),
    createdAt: now - (serverNow - Number(row.created_at)),
    expiresAt: now + (Number(row.expires_at) - serverNow),
  };
}

/** `row` is what the write returned. After a delete nothing is known. */
export function toOutcome(write: Write, row: PostgresRow | undefined, now: number): Outcome {
  if (row === undefined || write.kind === 'delete') {
    return { after: undefined, hasTakenEffect: row !== undefined };
  }
  const after = toBinding(row, now);
  return { after, hasTakenEffect: hasTakenEffect(write, after, row.owner) };
}

/** `owner` is the owner before the write, if there was one. */
function hasTakenEffect(
  write: Exclude<Write, { kind: 'delete' }>,
  after: Binding,
  owner: unknown,
): boolean {
  switch (write.kind) {
    case 'claim':
      return after.machine === write.machine;
    case 'upsert':
      return after.machine === write.machine && after.generation === write.generation;
    case 'rebind':
      return owner === write.from;
    case 'touch':
    case 'expireWithin':
      return true;
  }
}

/** A delete without effect does not return the binding that stays. */
export function leftBy(write: Write, outcome: Outcome): Binding | 'absent' | 'unknown' {
  const isRefused = write.kind === 'delete' && !outcome.hasTakenEffect;
  return outcome.after ?? (isRefused ? 'unknown' : 'absent');
}

/** Probes a Postgres database: version, schema, privileges and clock. Writes nothing. */
import type { Clock } from '../clock.ts';
import { compareClock } from './clock-offset.ts';
import type { ProbedDatabase, DatabaseRemark } from './store.ts';
import { type PostgresPool, openPostgresPool } from '../store/postgres/pool.ts';
import { POSTGRES_SCHEMA_VERSION } from '../store/postgres/schema.ts';

const STATE = `
  SELECT
    (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now_ms,
    current_setting('server_version_num')::int AS version,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS is_read_only,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    EXISTS (
      SELECT FROM pg_catalog.pg_class
      WHERE relname = 'fly_affinity_migrations' AND pg_catalog.pg_table_is_visible(oid)
    ) AS is_set_up`;
const LATEST = 'SELECT max(version)::int AS version FROM fly_affinity_migrations';

const STATEMENT_LIMIT_MS = 2_000;

/** Rejects with pg's errors. */
export async function probePostgres(url: string, clock: Clock): Promise<ProbedDatabase> {
  const pool = await openPostgresPool(url, clock, () => undefined);
  try {
    const [atMs, startedMs] = [clock.now(), clock.monotonicMs()];
    const [state = {}] = await pool.query(STATE, [], STATEMENT_LIMIT_MS);
    const roundTripMs = clock.monotonicMs() - startedMs;
    const clocks = [compareClock('Postgres', Number(state.now_ms), 0, { atMs, roundTripMs })];
    const schema = state.is_set_up === true ? await schemaOf(pool) : undefined;
    const remarks = remarksOn(state, schema);
    return { facts: { kind: 'usable', roundTripMs, remarks }, clocks };
  } finally {
    await pool.close();
  }
}

async function schemaOf(pool: PostgresPool): Promise<number> {
  const [latest] = await pool.query(LATEST, [], STATEMENT_LIMIT_MS);
  return Number(latest?.version ?? 0);
}

/** `number`: in the form of `server_version_num`. */
const OLDEST = { text: '13', number: 130_000 };
const PER_MAJOR = 10_000;

function remarksOn(
  state: Readonly<Record<string, unknown>>,
  schema: number | undefined,
): DatabaseRemark[] {
  const remarks: DatabaseRemark[] = [];
  const version = Number(state.version);
  if (version < OLDEST.number) {
    const shown = String(Math.floor(version / PER_MAJOR));
    remarks.push({ kind: 'old-version', version: shown, oldest: OLDEST.text });
  }
  if (state.is_read_only === true) remarks.push({ kind: 'read-only' });
  if (schema === undefined && state.may_create !== true) remarks.push({ kind: 'may-not-create' });
  if (schema !== undefined && schema > POSTGRES_SCHEMA_VERSION) {
    remarks.push({ kind: 'newer-schema', version: schema });
  }
  return remarks;
}

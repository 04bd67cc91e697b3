/**
 * The few connections to Postgres that one sidecar has. Each statement stands alone or in a
 * transaction, and nothing is left in a session: behind PgBouncer in transaction mode the next
 * statement may go to another one (https://www.pgbouncer.org/features.html). So no prepared
 * statements with names, no session locks, no SET but SET LOCAL.
 */
import { once } from 'node:events';
import { Client, Pool } from 'pg';
import type { ClientConfig, PoolClient } from 'pg';
import type { Clock } from '../clock.ts';
import { codeOf, isConnectionLost } from './postgres-errors.ts';
import { StoreError } from './store.ts';

export type PostgresRow = Readonly<Record<string, unknown>>;

/** Without values, `text` may be several statements. Rejects with pg's errors. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<readonly PostgresRow[]>;

export interface PostgresPool {
  /**
   * One statement. After `limitMs` it rejects with a `passing` {@link StoreError}, and its connection
   * is closed: whether the statement was performed is not known then.
   */
  query(text: string, values: readonly unknown[], limitMs: number): Promise<readonly PostgresRow[]>;
  /** All or nothing; for what may take longer, {@link TRANSACTION_LIMIT_MS} a statement. */
  transaction<Result>(run: (query: Query) => Promise<Result>): Promise<Result>;
  /** Waits for what is under way and closes all connections. To be called once. */
  close(): Promise<void>;
}

/** Fleets of many Machines share the 200 connections of Fly's smallest plan. */
export const MAX_CONNECTIONS = 4;
export const TRANSACTION_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 2_000;
/** How long the server works on a statement: less than its caller waits, so that it hears of it. */
const STATEMENT_LIMIT_MS = 900;
/** A server that does not even close a connection is not waited for longer. */
const CLOSE_LIMIT_MS = 1_000;
const IDLE_LIMIT_MS = 60_000;
/** Fly's proxy cuts connections off ten minutes after its own restart (https://fly.io/docs/mpg/client-configuration/). */
const LIFETIME_S = 540;
const KEEP_ALIVE_MS = 10_000;

/** `onBroken` is told of every connection that was up and broke. */
export function createPostgresPool(
  url: string,
  clock: Clock,
  onBroken: (error: unknown) => void,
): PostgresPool {
  const open = new Set<Client>();
  const pool = new Pool({
    Client: clientsIn(open),
    connectionString: url,
    max: MAX_CONNECTIONS,
    // One stays, so that the first request after a pause has not to wait for a handshake.
    min: 1,
    connectionTimeoutMillis: CONNECT_LIMIT_MS,
    idleTimeoutMillis: IDLE_LIMIT_MS,
    maxLifetimeSeconds: LIFETIME_S,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    statement_timeout: STATEMENT_LIMIT_MS,
    fallback_application_name: 'fly-affinity',
  });
  pool.on('error', onBroken);

  const send = async (
    client: PoolClient,
    text: string,
    values: readonly unknown[] | undefined,
    limitMs: number,
  ): Promise<readonly PostgresRow[]> => {
    try {
      const result = client.query<PostgresRow>(text, values && [...values]);
      return (await within(clock, limitMs, result)).rows;
    } catch (error) {
      if (isConnectionLost(error)) onBroken(error);
      throw error;
    }
  };

  return {
    query: (text, values, limitMs) =>
      withClient(pool, (client) => send(client, text, values, limitMs)),
    transaction: (run) =>
      withClient(pool, async (client) => {
        const query: Query = (text, values) => send(client, text, values, TRANSACTION_LIMIT_MS);
        await query(
          'BEGIN ISOLATION LEVEL READ COMMITTED; ' +
            `SET LOCAL statement_timeout = ${TRANSACTION_LIMIT_MS}`,
        );
        const result = await run(query);
        await query('COMMIT');
        return result;
      }),
    close: async () => {
      await pool.end();
      await closeAll(open, clock);
    },
  };
}

/** A client that anything went wrong with is closed, which also ends its transaction. */
async function withClient<Result>(
  pool: Pool,
  use: (client: PoolClient) => Promise<Result>,
): Promise<Result> {
  const client = await connect(pool);
  try {
    const result = await use(client);
    client.release();
    return result;
  } catch (error) {
    client.release(true);
    throw error;
  }
}

/** PgBouncer refuses to set a time limit, unless it was told to ignore that; then only our own holds. */
async function connect(pool: Pool): Promise<PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    if (!isParameterRefused(error)) throw error;
    pool.options.statement_timeout = false;
    return pool.connect();
  }
}

/** All of PgBouncer's own errors have this code, so that the message has to tell (https://github.com/pgbouncer/pgbouncer/issues/907). */
function isParameterRefused(error: unknown): boolean {
  return codeOf(error) === '08P01' && String(error).includes('startup parameter');
}

/** `open` has those whose connection is not closed yet, though they never got one. */
function clientsIn(open: Set<Client>): new (config?: ClientConfig) => Client {
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      open.add(this);
      this.connection.once('end', () => open.delete(this));
      // Left open otherwise, where the two sides do not come to terms.
      this.connection.on('error', () => this.connection.stream.destroy());
      // While it is in use its statement tells; without a listener the process would end.
      this.on('error', () => undefined);
    }
  };
}

/** The pool has said goodbye on each connection, but has not waited for the other side. */
async function closeAll(open: ReadonlySet<Client>, clock: Clock): Promise<void> {
  const cancel = clock.after(CLOSE_LIMIT_MS, () => {
    for (const client of open) client.connection.stream.destroy();
  });
  await Promise.all([...open].map((client) => once(client, 'end')));
  cancel();
}

function within<Result>(clock: Clock, ms: number, result: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(ms, () =>
      reject(new StoreError('passing', `Postgres has not answered within ${ms} ms`)),
    );
    result.then(resolve, reject).finally(cancel);
  });
}

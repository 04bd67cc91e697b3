/** The connection pool of one sidecar to Postgres. */
import { hash } from 'node:crypto';
import { Client, Pool, type ClientConfig, type PoolClient, type QueryConfig } from 'pg';
import type { Clock } from '../../clock.ts';
import { isConnectionLost, postgresCodeOf } from './errors.ts';
import { withinTime } from '../time-limit.ts';
import { StoreError } from '../store.ts';

export type PostgresRow = Readonly<Record<string, unknown>>;

/** Without values, `text` may contain several statements. Rejects with pg's errors. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<readonly PostgresRow[]>;

export interface PostgresPool {
  /**
   * Runs one statement. After `limitMs` it rejects with a `passing` {@link StoreError}, and closes
   * the connection: then it is unknown whether the statement took effect. Rejects with pg's errors
   * else.
   */
  query(text: string, values: readonly unknown[], limitMs: number): Promise<readonly PostgresRow[]>;
  /** All or nothing; for slow work, {@link TRANSACTION_LIMIT_MS} a statement. */
  transaction<Result>(run: (query: Query) => Promise<Result>): Promise<Result>;
  /** Closes connections that may be dead; statements in flight fail. */
  reconnect(): void;
  /** Waits a second for statements in flight, and closes all connections. Call it once. */
  close(): Promise<void>;
}

/** Fleets of many Machines share the 200 connections of Fly's smallest plan. */
export const MAX_CONNECTIONS = 4;
export const TRANSACTION_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 2_000;
/** Statements in flight then fail, and a server that does not close its side is ignored. */
const CLOSE_LIMIT_MS = 1_000;
const IDLE_LIMIT_MS = 60_000;
/**
 * Fly's proxy closes connections ten minutes after its own restart
 * (https://fly.io/docs/mpg/client-configuration/).
 */
const LIFETIME_S = 540;
const KEEP_ALIVE_MS = 10_000;

const BEGIN = `
  BEGIN ISOLATION LEVEL READ COMMITTED;
  SET LOCAL statement_timeout = ${TRANSACTION_LIMIT_MS};
  SET LOCAL enable_seqscan = on`;

/** `onBroken` is called for every established connection that broke. Rejects with pg's errors. */
export async function openPostgresPool(
  url: string,
  clock: Clock,
  onBroken: (error: unknown) => void,
): Promise<PostgresPool> {
  const connections = new Connections(url, clock, onBroken);
  try {
    await connections.open();
    return connections;
  } catch (error) {
    await connections.close();
    throw error;
  }
}

class Connections implements PostgresPool {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #onBroken: (error: unknown) => void;
  readonly #pool: Pool;
  /** Connections that are not closed yet, even if they were never established. */
  readonly #clients = new Set<Client>();
  readonly #nameOf = createStatementNames();
  readonly #uses = new Set<Promise<unknown>>();
  #isOurSession = false;
  #isClosed = false;

  constructor(url: string, clock: Clock, onBroken: (error: unknown) => void) {
    this.#url = url;
    this.#clock = clock;
    this.#onBroken = onBroken;
    this.#pool = new Pool({
      Client: clientsIn(this.#clients),
      connectionString: withSettings(url),
      max: MAX_CONNECTIONS,
      // One stays, so that the first request after a pause need not wait for a handshake.
      min: 1,
      connectionTimeoutMillis: CONNECT_LIMIT_MS,
      idleTimeoutMillis: IDLE_LIMIT_MS,
      maxLifetimeSeconds: LIFETIME_S,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      fallback_application_name: 'fly-affinity',
    });
    this.#pool.on('error', (error) => {
      if (isConnectionLost(error)) onBroken(error);
    });
  }

  async open(): Promise<void> {
    const [row] = await this.query(IS_OURS, [], TRANSACTION_LIMIT_MS);
    this.#isOurSession = row?.is_ours === true;
  }

  query(
    text: string,
    values: readonly unknown[],
    limitMs: number,
  ): Promise<readonly PostgresRow[]> {
    const name = this.#isOurSession ? this.#nameOf(text) : undefined;
    return this.#use((client) => this.#send(client, { name, text, values: [...values] }, limitMs));
  }

  transaction<Result>(run: (query: Query) => Promise<Result>): Promise<Result> {
    return this.#use(async (client) => {
      const query: Query = (text, values) =>
        this.#send(client, values ? { text, values: [...values] } : { text }, TRANSACTION_LIMIT_MS);
      await query(BEGIN);
      const result = await run(query);
      await query('COMMIT');
      return result;
    });
  }

  reconnect(): void {
    for (const client of this.#clients) client.connection.stream.destroy();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const cancel = this.#clock.after(CLOSE_LIMIT_MS, () => this.reconnect());
    // A pool that ends forgets the callers that wait for a client.
    await Promise.allSettled(this.#uses);
    await this.#pool.end();
    // `end` has sent the goodbye on each connection, but has not waited for the other side.
    await Promise.all([...this.#clients].map(ended));
    cancel();
  }

  async #use<Result>(run: (client: PoolClient) => Promise<Result>): Promise<Result> {
    if (this.#isClosed) throw new StoreError('closed', 'the connections to Postgres are closed');
    const use = this.#useClient(run);
    this.#uses.add(use);
    return use.finally(() => this.#uses.delete(use));
  }

  /** A client on which anything failed is closed, which also ends its transaction. */
  async #useClient<Result>(run: (client: PoolClient) => Promise<Result>): Promise<Result> {
    const client = await this.#connect();
    try {
      const result = await run(client);
      client.release();
      return result;
    } catch (error) {
      client.release(true);
      throw error;
    }
  }

  async #connect(): Promise<PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      if (!areSettingsRefused(error)) throw error;
      this.#pool.options.connectionString = this.#url;
      this.#isOurSession = false;
      return this.#pool.connect();
    }
  }

  async #send(
    client: PoolClient,
    query: QueryConfig,
    limitMs: number,
  ): Promise<readonly PostgresRow[]> {
    try {
      const result = client.query<PostgresRow>(query);
      return (await withinTime(this.#clock, limitMs, result, 'a statement of Postgres')).rows;
    } catch (error) {
      if (isSessionShared(error)) this.#isOurSession = false;
      if (isConnectionLost(error)) this.#onBroken(error);
      throw error;
    }
  }
}

/** Not `once` of node:events, which rejects if an error comes before the end. */
function ended(client: Client): Promise<void> {
  return new Promise((resolve) => client.once('end', resolve));
}

function clientsIn(clients: Set<Client>): new (config?: ClientConfig) => Client {
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      clients.add(this);
      this.connection.once('end', () => clients.delete(this));
      // While it is in use its statement reports the error; without a listener the process would
      // exit.
      this.on('error', () => undefined);
    }
  };
}

/**
 * The server's limit for a statement, in ms: less than its caller waits, so that the caller gets
 * the error. An unusual number, so that it identifies our setting.
 */
const STATEMENT_LIMIT_MS = 907;
/** A cached plan may have been made for a table with a few rows, and is used for a million. */
const SETTINGS = `-c statement_timeout=${STATEMENT_LIMIT_MS} -c enable_seqscan=off`;

/** A query in the session: whether the settings are in force. */
const IS_OURS = `
  SELECT current_setting('statement_timeout') = '${STATEMENT_LIMIT_MS}ms' AS is_ours`;

/** The settings come before those in the user's URL. */
export function withSettings(url: string): string {
  const set = new URL(url);
  const options = set.searchParams.get('options');
  set.searchParams.set('options', options === null ? SETTINGS : `${SETTINGS} ${options}`);
  return set.href;
}

/**
 * All of PgBouncer's own errors have this code, so only the message distinguishes them
 * (https://github.com/pgbouncer/pgbouncer/issues/907).
 */
function areSettingsRefused(error: unknown): boolean {
  return postgresCodeOf(error) === '08P01' && String(error).includes('startup parameter');
}

/**
 * The prepared statement is missing, or another client's: the session is not ours alone after all.
 */
function isSessionShared(error: unknown): boolean {
  return postgresCodeOf(error) === '26000' || postgresCodeOf(error) === '42P05';
}

/** Depends on the text only, so that a statement of another version is never mistaken for it. */
function createStatementNames(): (text: string) => string {
  const names = new Map<string, string>();
  return (text) => {
    const name = names.get(text) ?? `fly_affinity_${hash('sha256', text).slice(0, 16)}`;
    names.set(text, name);
    return name;
  };
}

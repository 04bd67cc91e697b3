/** The few connections to Postgres that one sidecar has. */
import { hash } from 'node:crypto';
import { Client, Pool, type ClientConfig, type PoolClient, type QueryConfig } from 'pg';
import type { Clock } from '../../clock.ts';
import { isConnectionLost, postgresCodeOf } from './errors.ts';
import { withinTime } from '../time-limit.ts';
import { StoreError } from '../store.ts';

export type PostgresRow = Readonly<Record<string, unknown>>;

/** Without values, `text` may be several statements. Rejects with pg's errors. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<readonly PostgresRow[]>;

export interface PostgresPool {
  /**
   * One statement. After `limitMs` it rejects with a `passing` {@link StoreError}, and its connection
   * is closed: whether the statement was performed is not known then. Rejects with pg's errors else.
   */
  query(text: string, values: readonly unknown[], limitMs: number): Promise<readonly PostgresRow[]>;
  /** All or nothing; for what may take longer, {@link TRANSACTION_LIMIT_MS} a statement. */
  transaction<Result>(run: (query: Query) => Promise<Result>): Promise<Result>;
  /** Waits a second for what is under way, and closes all connections. To be called once. */
  close(): Promise<void>;
}

/** Fleets of many Machines share the 200 connections of Fly's smallest plan. */
export const MAX_CONNECTIONS = 4;
export const TRANSACTION_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 2_000;
/** What is under way then fails, and a server that does not even close a connection is left alone. */
const CLOSE_LIMIT_MS = 1_000;
const IDLE_LIMIT_MS = 60_000;
/** Fly's proxy cuts connections off ten minutes after its own restart (https://fly.io/docs/mpg/client-configuration/). */
const LIFETIME_S = 540;
const KEEP_ALIVE_MS = 10_000;

const BEGIN = `
  BEGIN ISOLATION LEVEL READ COMMITTED;
  SET LOCAL statement_timeout = ${TRANSACTION_LIMIT_MS};
  SET LOCAL enable_seqscan = on`;

/** `onBroken` is told of every connection that was up and broke. Rejects with pg's errors. */
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
  /** Those whose connection is not closed yet, though they never got one. */
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
      // One stays, so that the first request after a pause has not to wait for a handshake.
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

  async close(): Promise<void> {
    this.#isClosed = true;
    const cancel = this.#clock.after(CLOSE_LIMIT_MS, () => {
      for (const client of this.#clients) client.connection.stream.destroy();
    });
    // A pool that is told to end forgets who waits for a client.
    await Promise.allSettled(this.#uses);
    await this.#pool.end();
    // It has said goodbye on each connection, but has not waited for the other side.
    await Promise.all([...this.#clients].map(ended));
    cancel();
  }

  async #use<Result>(run: (client: PoolClient) => Promise<Result>): Promise<Result> {
    if (this.#isClosed) throw new StoreError('closed', 'the connections to Postgres are closed');
    const use = this.#useClient(run);
    this.#uses.add(use);
    return use.finally(() => this.#uses.delete(use));
  }

  /** A client that anything went wrong with is closed, which also ends its transaction. */
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

/** Not by `once` of node:events, which rejects where an error comes before the end. */
function ended(client: Client): Promise<void> {
  return new Promise((resolve) => client.once('end', resolve));
}

function clientsIn(clients: Set<Client>): new (config?: ClientConfig) => Client {
  return class extends Client {
    constructor(config?: ClientConfig) {
      super(config);
      clients.add(this);
      this.connection.once('end', () => clients.delete(this));
      // While it is in use its statement tells; without a listener the process would end.
      this.on('error', () => undefined);
    }
  };
}

/**
 * How long the server works on a statement, in ms: less than its caller waits, so that it hears of
 * it. Such a number that nobody else has set it.
 */
const STATEMENT_LIMIT_MS = 907;
/** A plan that is kept may have been made for a table with a few rows, and is used for a million. */
const SETTINGS = `-c statement_timeout=${STATEMENT_LIMIT_MS} -c enable_seqscan=off`;

/** To be asked in a session: whether the settings are in force. */
export const IS_OURS = `
  SELECT current_setting('statement_timeout') = '${STATEMENT_LIMIT_MS}ms' AS is_ours`;

/** The settings go before those that somebody else has put into the URL. */
export function withSettings(url: string): string {
  const set = new URL(url);
  const options = set.searchParams.get('options');
  set.searchParams.set('options', options === null ? SETTINGS : `${SETTINGS} ${options}`);
  return set.href;
}

/** All of PgBouncer's own errors have this code, so that the message has to tell (https://github.com/pgbouncer/pgbouncer/issues/907). */
export function areSettingsRefused(error: unknown): boolean {
  return postgresCodeOf(error) === '08P01' && String(error).includes('startup parameter');
}

/** What was prepared is not there, or was prepared by another: the session is not ours after all. */
export function isSessionShared(error: unknown): boolean {
  return postgresCodeOf(error) === '26000' || postgresCodeOf(error) === '42P05';
}

/** The same for the same text only, so that a statement of another version is never taken for it. */
export function createStatementNames(): (text: string) => string {
  const names = new Map<string, string>();
  return (text) => {
    const name = names.get(text) ?? `fly_affinity_${hash('sha256', text).slice(0, 16)}`;
    names.set(text, name);
    return name;
  };
}

/**
 * Keeps a namespace within its bounds. Counting a million rows takes a tenth of a second, and every
 * new binding of the fleet would lock a counter row. So each sidecar counts the rows periodically,
 * and writes freely as long as the bound can't have been exceeded by much, even if others write at
 * the same rate:
 *
 *     written ─ less than the allowance since the last count ─> nothing
 *             └ else ─> count ─ within the bounds ─> a new allowance
 *                             └ beyond ─> clean up
 *
 * A clean-up removes expired rows, then rows above the bounds. Both use SKIP LOCKED: sidecars that
 * clean up at the same time share the work, and none waits for another.
 */
import { hash } from 'node:crypto';
import type { BindingOrigin, SessionKey } from '../../session.ts';
import type { PostgresPool, Query } from './pool.ts';
import { LOCK_CLASS } from './schema.ts';
import { NOW, POSTGRES_ORIGINS, commonValues, type StatementSettings } from './statements.ts';
import { EVICTION_ORDER, adoptedCap } from '../store.ts';

export interface BindingCounts {
  /** Expired ones included. */
  readonly all: Counts;
  readonly alive: Counts;
}

interface UpkeepOptions {
  readonly pool: Pick<PostgresPool, 'transaction'>;
  readonly settings: StatementSettings;
  readonly maxSessions: number;
  /** Bindings that were evicted. */
  readonly onEvicted: (keys: readonly SessionKey[]) => void;
  /** Errors of background work. */
  readonly onError: (error: unknown) => void;
}

/** Rows removed in one transaction: it takes some ms. */
const CLEANUP_BATCH = 500;
/** A count precedes each; so a bound that was lowered by a million is reached in a minute. */
const EVICTION_BATCH = 10_000;

const COUNT = `
  SELECT origin, count(*) AS all, count(*) FILTER (WHERE expires_at > ${NOW}) AS alive
  FROM fly_affinity_sessions WHERE namespace = $1 GROUP BY origin`;

/** By ctid, which rows keep while they are locked. */
const REMOVE_EXPIRED = `
  DELETE FROM fly_affinity_sessions WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM fly_affinity_sessions
    WHERE namespace = $1 AND origin = ANY($3::smallint[]) AND expires_at <= ${NOW}
    LIMIT $4 FOR UPDATE SKIP LOCKED))
  RETURNING 1`;

const REMOVE_OLDEST = `
  DELETE FROM fly_affinity_sessions WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM fly_affinity_sessions
    WHERE namespace = $1 AND origin = $3 AND expires_at > ${NOW}
    ORDER BY expires_at LIMIT $4 FOR UPDATE SKIP LOCKED))
  RETURNING encode(key, 'hex') AS key`;

/** Rejections are pg's errors. */
export class PostgresUpkeep {
  readonly #options: UpkeepOptions;
  readonly #allowance: Allowance;
  /** Clean-ups and evictions, one at a time. */
  #last: Promise<unknown> = Promise.resolve();
  #isMakingRoom = false;
  #isStopped = false;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#allowance = createAllowance(options.maxSessions);
  }

  /** Removes expired rows and rows above the bounds; returns how many. */
  cleanUp(): Promise<number> {
    return this.#inTurn(() => this.#removeAll());
  }

  count(): Promise<BindingCounts> {
    const { pool, settings } = this.#options;
    return pool.transaction((query) => countIn(query, settings));
  }

  /** Call it for each binding that may be new; the work that follows runs in the background. */
  noteWritten(origin: BindingOrigin): void {
    this.#allowance.use(origin);
    this.#makeRoomIfDue();
  }

  /** Resolves once there is room for all earlier writes. Never rejects. */
  async idle(): Promise<void> {
    await this.#last;
    // Writes during the wait may have started another one.
    await this.#last;
  }

  /** Starts nothing more; a clean-up ends after its current transaction. */
  stop(): void {
    this.#isStopped = true;
  }

  #makeRoomIfDue(): void {
    if (this.#isMakingRoom || this.#isStopped || !this.#allowance.isUsedUp()) return;
    this.#isMakingRoom = true;
    void this.#inTurn(() => this.#makeRoom());
  }

  /** Never rejects. */
  async #makeRoom(): Promise<void> {
    const { maxSessions, onError } = this.#options;
    try {
      this.#allowance.renew();
      const { all } = await this.count();
      this.#allowance.grant(all);
      if (excessOf(all, maxSessions).length > 0) await this.#removeAll();
    } catch (error) {
      if (!this.#isStopped) onError(error);
    }
    this.#isMakingRoom = false;
    this.#makeRoomIfDue();
  }

  async #removeAll(): Promise<number> {
    const { pool, settings } = this.#options;
    const removeExpired = (): Promise<number> =>
      pool.transaction((query) => removeExpiredIn(query, settings));
    const expired = await this.#repeat(CLEANUP_BATCH, removeExpired);
    return expired + (await this.#repeat(EVICTION_BATCH, () => this.#evict()));
  }

  async #evict(): Promise<number> {
    const { pool, settings, maxSessions, onEvicted } = this.#options;
    const evicted = await pool.transaction((query) => evictIn(query, settings, maxSessions));
    onEvicted(evicted);
    return evicted.length;
  }

  async #repeat(batch: number, remove: () => Promise<number>): Promise<number> {
    let total = 0;
    for (let removed = batch; removed >= batch && !this.#isStopped; total += removed) {
      removed = await remove();
    }
    return total;
  }

  #inTurn<Result>(run: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

async function countIn(query: Query, settings: StatementSettings): Promise<BindingCounts> {
  const rows = await query(COUNT, commonValues(settings));
  const column = (name: 'all' | 'alive'): Counts => {
    const countOf = (origin: BindingOrigin): number =>
      Number(rows.find((row) => row.origin === POSTGRES_ORIGINS.indexOf(origin))?.[name] ?? 0);
    return {
      learned: countOf('learned'),
      adopted: countOf('adopted'),
      copied: countOf('copied'),
    };
  };
  return { all: column('all'), alive: column('alive') };
}

async function removeExpiredIn(query: Query, settings: StatementSettings): Promise<number> {
  const values = [...commonValues(settings), [...POSTGRES_ORIGINS.keys()], CLEANUP_BATCH];
  return (await query(REMOVE_EXPIRED, values)).length;
}

/**
 * Does nothing if another sidecar is evicting: both would remove the same excess. Expired rows are
 * not counted, because another sidecar may be removing them.
 */
async function evictIn(
  query: Query,
  settings: StatementSettings,
  maxSessions: number,
): Promise<readonly SessionKey[]> {
  const lock = [LOCK_CLASS, lockNumberOf(settings.namespace)];
  const [row] = await query('SELECT pg_try_advisory_xact_lock($1, $2) AS is_ours', lock);
  if (row?.is_ours !== true) return [];
  const { alive } = await countIn(query, settings);
  const evicted: SessionKey[] = [];
  for (const [origin, excess] of excessOf(alive, maxSessions)) {
    const limit = Math.min(excess, EVICTION_BATCH - evicted.length);
    const values = [...commonValues(settings), POSTGRES_ORIGINS.indexOf(origin), limit];
    for (const { key } of await query(REMOVE_OLDEST, values)) {
      evicted.push(String(key) as SessionKey);
    }
  }
  return evicted;
}

/** Any 32 bits. Two namespaces with the same hash would clean up one after the other. */
function lockNumberOf(namespace: string): number {
  return hash('sha256', namespace, 'buffer').readInt32BE();
}

/** The number of rows of each origin. */
export type Counts = Readonly<Record<BindingOrigin, number>>;

export function sumOf(counts: Counts): number {
  return counts.learned + counts.adopted + counts.copied;
}

/** How many rows of which origin to remove, in that order. */
export function excessOf(
  counts: Counts,
  maxSessions: number,
): readonly (readonly [origin: BindingOrigin, count: number])[] {
  const tooManyAdopted = Math.max(0, counts.adopted - adoptedCap(maxSessions));
  let left = Math.max(0, sumOf(counts) - tooManyAdopted - maxSessions);
  const excess = EVICTION_ORDER.map((origin) => {
    const beforehand = origin === 'adopted' ? tooManyAdopted : 0;
    const further = Math.min(left, counts[origin] - beforehand);
    left -= further;
    return [origin, beforehand + further] as const;
  });
  return excess.filter(([, count]) => count > 0);
}

interface Allowance {
  /** One more was written. */
  use(origin: BindingOrigin): void;
  isUsedUp(): boolean;
  /** Call it before the rows are counted: the count may miss what is written meanwhile. */
  renew(): void;
  grant(counts: Counts): void;
}

/** This many sidecars may write at once and not exceed the bound between two counts. */
const WRITERS = 32;
/** The part of the bound by which each of them may exceed it. */
const SLACK = 1 / 400;

/** None before the first count. */
function createAllowance(maxSessions: number): Allowance {
  const used = { total: 0, adopted: 0 };
  const granted = { total: 0, adopted: 0 };
  const share = (bound: number, held: number): number =>
    Math.max((bound - held) / WRITERS, bound * SLACK);
  return {
    use: (origin) => {
      used.total += 1;
      if (origin === 'adopted') used.adopted += 1;
    },
    isUsedUp: () => used.total > granted.total || used.adopted > granted.adopted,
    renew: () => {
      used.total = 0;
      used.adopted = 0;
    },
    grant: (counts) => {
      granted.total = share(maxSessions, sumOf(counts));
      granted.adopted = share(adoptedCap(maxSessions), counts.adopted);
    },
  };
}

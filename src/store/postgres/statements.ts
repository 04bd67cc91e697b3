/**
 * The rules of `rules.ts` in SQL: one statement for all queries of one kind in a batch, no two of
 * them of one key.
 *
 * A write sees the committed row once it holds the row's lock, whatever the snapshot says: ON
 * CONFLICT DO UPDATE and FOR UPDATE promise that at the isolation level READ COMMITTED
 * (https://www.postgresql.org/docs/current/transaction-iso.html). So a loser gets the winner's row;
 * for that the row is written unchanged, because only written rows are returned. Rows are locked in
 * the order of their keys, so that two sidecars can't deadlock.
 */
import { Buffer } from 'node:buffer';
import type { BindingOrigin, MachineId, SessionKey } from '../../session.ts';
import { wholeTtlMs } from '../rules.ts';
import type { Write, WriteKind } from '../rules.ts';

export type Question = Write | { readonly kind: 'lookup'; readonly key: SessionKey };

export interface StatementSettings {
  readonly namespace: string;
  /** 0 for no bound. */
  readonly maxAgeMs: number;
  /** Replaces the server's time; in ms since the epoch. */
  readonly serverTime: (() => number) | undefined;
}

interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** The numbers in the database. */
export const POSTGRES_ORIGINS: readonly BindingOrigin[] = ['learned', 'adopted', 'copied'];
const COPIED = POSTGRES_ORIGINS.indexOf('copied');

/**
 * $1 is the namespace; $2 replaces the server's time. The statement's time is the same for all of
 * its rows: `clock_timestamp()` advances during it, and can't be used with an index.
 */
export const NOW =
  'coalesce($2::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)';
const COLUMNS = `encode(s.key, 'hex') AS key, s.machine, s.origin, s.generation,
  s.created_at, s.expires_at, ${NOW} AS now`;

const KEYS = '$3::bytea[]';
/** Null for no bound: `least` ignores nulls. */
const MAX_AGE = '$4::bigint';
const TTLS = '$5::bigint[]';
/** A row for each query. `holder` is the Machine that must own the key. */
const ASKED = `(
    SELECT w.*, ${NOW} AS now, ${MAX_AGE} AS max_age
    FROM unnest(${KEYS}, ${TTLS}, $6::text[], $7::text[], $8::smallint[], $9::bigint[], $10::bigint[])
      AS w (key, ttl, machine, holder, origin, generation, age)
  ) AS w`;

const IS_OVER = `s.expires_at <= ${NOW}`;

/**
 * Expired or not. A single key is the usual case, and a list of keys takes twice as long to plan.
 */
const LOOKUP_ONE = `
  SELECT ${COLUMNS} FROM fly_affinity_sessions AS s WHERE s.namespace = $1 AND s.key = $3`;
const LOOKUP_ALL = `
  SELECT ${COLUMNS} FROM fly_affinity_sessions AS s
  WHERE s.namespace = $1 AND s.key = ANY(${KEYS})`;

const CLAIM = `
  INSERT INTO fly_affinity_sessions AS s
    (namespace, key, machine, origin, generation, created_at, expires_at)
  SELECT $1, w.key, w.machine, w.origin, 1, w.now, least(w.now + w.ttl, w.now + w.max_age)
  FROM ${ASKED} ORDER BY w.key
  ON CONFLICT (namespace, key) DO UPDATE SET
    machine = CASE WHEN ${IS_OVER} THEN excluded.machine ELSE s.machine END,
    origin = CASE
      WHEN ${IS_OVER} THEN excluded.origin
      WHEN s.machine = excluded.machine THEN least(s.origin, excluded.origin)
      ELSE s.origin END,
    generation = CASE WHEN ${IS_OVER} THEN 1 ELSE s.generation END,
    created_at = CASE WHEN ${IS_OVER} THEN excluded.created_at ELSE s.created_at END,
    expires_at = CASE
      WHEN ${IS_OVER} THEN excluded.expires_at
      WHEN s.machine <> excluded.machine THEN s.expires_at
      ELSE least(greatest(s.expires_at, excluded.expires_at), s.created_at + ${MAX_AGE}) END
  RETURNING ${COLUMNS}`;

/** The written binding is older than the existing one. */
const IS_OUTDATED = `(s.generation > excluded.generation OR (s.generation = excluded.generation
      AND s.machine <> excluded.machine AND s.origin <> ${COPIED}))`;

const UPSERT = `
  INSERT INTO fly_affinity_sessions AS s
    (namespace, key, machine, origin, generation, created_at, expires_at)
  SELECT $1, w.key, w.machine, w.origin, w.generation, w.now - w.age,
    least(w.now + w.ttl, w.now - w.age + w.max_age)
  FROM ${ASKED} ORDER BY w.key
  ON CONFLICT (namespace, key) DO UPDATE SET
    machine = CASE WHEN ${IS_OVER} OR NOT ${IS_OUTDATED} THEN excluded.machine ELSE s.machine END,
    origin = CASE
      WHEN ${IS_OVER} THEN excluded.origin
      WHEN ${IS_OUTDATED} THEN s.origin
      WHEN s.machine = excluded.machine THEN least(s.origin, excluded.origin)
      ELSE excluded.origin END,
    generation = CASE
      WHEN ${IS_OVER} THEN excluded.generation
      ELSE greatest(s.generation, excluded.generation) END,
    created_at = CASE WHEN ${IS_OVER} THEN excluded.created_at ELSE s.created_at END,
    expires_at = CASE
      WHEN ${IS_OVER} THEN excluded.expires_at
      WHEN ${IS_OUTDATED} THEN s.expires_at
      -- Not from excluded.expires_at, which the given creation time may have cut short.
      ELSE least(${NOW} + (${TTLS})[array_position(${KEYS}, excluded.key)],
        s.created_at + ${MAX_AGE}) END
  RETURNING ${COLUMNS}`;

/** The locked rows of the keys, with the query of each. */
const FOUND = `
  WITH found AS MATERIALIZED (
    SELECT w.*, s.machine AS owner
    FROM ${ASKED} JOIN fly_affinity_sessions AS s ON s.namespace = $1 AND s.key = w.key
    WHERE NOT ${IS_OVER}
    ORDER BY s.key FOR UPDATE OF s
  )`;
const IS_FOUND = 's.namespace = $1 AND s.key = found.key';
const UPDATED = `FROM found WHERE ${IS_FOUND} RETURNING ${COLUMNS}, found.owner`;
const SLID = `least(greatest(s.expires_at, found.now + found.ttl), s.created_at + found.max_age)`;

const REBIND = `${FOUND}
  UPDATE fly_affinity_sessions AS s SET
    machine = CASE WHEN s.machine = found.holder THEN found.machine ELSE s.machine END,
    origin = CASE
      WHEN s.machine = found.holder AND s.machine <> found.machine THEN found.origin
      ELSE s.origin END,
    generation = CASE
      WHEN s.machine = found.holder AND s.machine <> found.machine THEN s.generation + 1
      ELSE s.generation END,
    expires_at = CASE
      WHEN s.machine <> found.holder THEN s.expires_at
      WHEN s.machine = found.machine THEN ${SLID}
      ELSE least(found.now + found.ttl, s.created_at + found.max_age) END
  ${UPDATED}`;

const TOUCH = `${FOUND} UPDATE fly_affinity_sessions AS s SET expires_at = ${SLID} ${UPDATED}`;

const EXPIRE_WITHIN = `${FOUND}
  UPDATE fly_affinity_sessions AS s SET expires_at = least(s.expires_at, found.now + found.ttl)
  ${UPDATED}`;

const DELETE = `${FOUND}
  DELETE FROM fly_affinity_sessions AS s USING found
  WHERE ${IS_FOUND} AND (found.holder IS NULL OR found.holder = s.machine)
  RETURNING ${COLUMNS}, found.owner`;

export const PAGE_ROWS = 500;
/** The number is in the text, so that a cached plan is one for so few rows. */
const PAGE = `
  SELECT ${COLUMNS} FROM fly_affinity_sessions AS s
  WHERE s.namespace = $1 AND s.key > $3 ORDER BY s.key LIMIT ${PAGE_ROWS}`;

/** Of all namespaces, with indexes. */
export const SIZE = "SELECT pg_total_relation_size('fly_affinity_sessions') AS bytes";

const TEXTS: Readonly<Record<WriteKind, string>> = {
  claim: CLAIM,
  upsert: UPSERT,
  rebind: REBIND,
  touch: TOUCH,
  expireWithin: EXPIRE_WITHIN,
  delete: DELETE,
};

/** The columns that all kinds have in common; null where a kind has no such value. */
interface Asked {
  readonly ttlMs?: number;
  readonly machine?: MachineId;
  readonly holder?: MachineId | undefined;
  readonly origin?: BindingOrigin;
  readonly generation?: number;
  readonly ageMs?: number;
}

/**
 * For queries of one kind and of different keys. The result has rows of these keys, in any order.
 */
export function statementOf(
  questions: readonly [Question, ...Question[]],
  settings: StatementSettings,
): Statement {
  const [{ kind }] = questions;
  const keys = questions.map(({ key }) => Buffer.from(key, 'hex'));
  const common = commonValues(settings);
  if (kind === 'lookup') {
    return keys.length === 1
      ? { text: LOOKUP_ONE, values: [...common, keys[0]] }
      : { text: LOOKUP_ALL, values: [...common, keys] };
  }
  const asked = questions.map(askedOf);
  const column = (value: (asked: Asked) => unknown): unknown[] =>
    asked.map((each) => value(each) ?? null);
  return {
    text: TEXTS[kind],
    values: [
      ...common,
      keys,
      settings.maxAgeMs > 0 ? settings.maxAgeMs : null,
      column(({ ttlMs }) => ttlMs),
      column(({ machine }) => machine),
      column(({ holder }) => holder),
      column(({ origin }) => origin && POSTGRES_ORIGINS.indexOf(origin)),
      column(({ generation }) => generation),
      column(({ ageMs }) => ageMs),
    ],
  };
}

/** Values for $1 and $2. */
export function commonValues({ namespace, serverTime }: StatementSettings): unknown[] {
  return [namespace, serverTime ? Math.floor(serverTime()) : null];
}

/**
 * {@link PAGE_ROWS} rows in the order of the keys, starting after `after`, expired ones included.
 */
export function pageStatement(
  after: SessionKey | undefined,
  settings: StatementSettings,
): Statement {
  return { text: PAGE, values: [...commonValues(settings), Buffer.from(after ?? '', 'hex')] };
}

function askedOf(question: Question): Asked {
  switch (question.kind) {
    case 'lookup':
      return {};
    case 'claim':
      return { ...question, ttlMs: wholeTtlMs(question.ttlMs) };
    case 'upsert': {
      const { machine, origin, generation, now, createdAt = now } = question;
      // Creation time in this process's clock, and an expiry in the past: whole ms are exact enough.
      const ageMs = wholeTtlMs(now - createdAt);
      return { machine, origin, generation, ageMs, ttlMs: wholeTtlMs(question.ttlMs) };
    }
    case 'rebind': {
      const { from, to, origin, ttlMs } = question;
      return { machine: to, holder: from, origin, ttlMs: wholeTtlMs(ttlMs) };
    }
    case 'touch':
    case 'expireWithin':
      return { ttlMs: wholeTtlMs(question.ttlMs) };
    case 'delete':
      return { holder: question.ifMachine };
  }
}

/** What Postgres's errors mean for a store: the documented table of categories. */
import { StoreError, type StoreErrorCode } from '../store.ts';
import { codeOf } from '../../errors.ts';

/**
 * By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), of which the first
 * two characters are a class, and by the codes of Node.js for connections. An exact code takes
 * precedence over its class; everything else is `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['08', 'passing', 'the connection failed, or the connection pooler has none free'],
  ['25006', 'passing', 'the server is read-only, as after a failover'],
  ['25P04', 'passing', 'the transaction was cut off'],
  ['26000', 'passing', 'a connection pooler shares sessions; prepared statements are now off'],
  ['28', 'fatal', 'wrong user or password'],
  ['3D000', 'fatal', 'the database does not exist'],
  ['3F000', 'fatal', 'no schema in which the user may create tables'],
  ['40', 'passing', 'another transaction conflicted'],
  ['42', 'fatal', 'the tables differ from what this version of fly-affinity expects'],
  ['42P05', 'passing', 'a connection pooler shares sessions; prepared statements are now off'],
  ['42501', 'fatal', 'the user lacks the permission'],
  ['53', 'passing', 'the server is out of memory or connections'],
  ['53100', 'full', 'the disk is full'],
  ['54', 'full', 'the server has reached a limit'],
  ['55006', 'passing', 'it is in use'],
  ['55P03', 'passing', 'another session holds the lock'],
  ['57', 'passing', 'the server is starting or stopping, or has cancelled the statement'],
  ['57P04', 'fatal', 'the database was dropped'],
  ['58', 'passing', 'a disk error, which may be temporary'],
  ['XX', 'passing', 'an internal error of the server or the connection pooler'],
  ['XX001', 'fatal', 'the data in the database are damaged: have it checked and restored'],
  ['XX002', 'fatal', 'an index in the database is damaged: have it checked and rebuilt'],
  ['EAI_AGAIN', 'passing', 'its name cannot be resolved now'],
  ['ENOTFOUND', 'passing', 'its name does not resolve'],
  ['ECONNREFUSED', 'passing', 'connection refused'],
  ['ECONNRESET', 'passing', 'the connection broke'],
  ['ECONNABORTED', 'passing', 'the connection broke'],
  ['EPIPE', 'passing', 'the connection broke'],
  ['ETIMEDOUT', 'passing', 'it does not respond'],
  ['EHOSTUNREACH', 'passing', 'no route to the server'],
  ['EHOSTDOWN', 'passing', 'no route to the server'],
  ['ENETUNREACH', 'passing', 'no route to the server'],
  ['ENETDOWN', 'passing', 'no route to the server'],
  ['EADDRNOTAVAIL', 'passing', 'no route to the server'],
  ['ENOENT', 'passing', 'the socket does not exist'],
];

const ENTRIES = new Map(CATEGORIES.map(([code, category, why]) => [code, { category, why }]));

/** A connection that ended or was too slow, where pg has no code. */
const BROKEN = {
  category: 'passing',
  why: 'the connection broke, or the server does not respond',
} as const;
/** pg has no code either if the two sides disagree on TLS, or a password is missing. */
const REFUSALS = /\bSSL\b|\bSASL\b|password/;
const REFUSED = { category: 'fatal', why: 'SESSION_STORE_URL does not fit the server' } as const;
const UNEXPECTED = { category: 'fatal', why: 'unexpected' } as const;

/**
 * `doing` names the operation that failed, as in `store claim`. A {@link StoreError} passes
 * unchanged.
 */
export function toPostgresStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const { category, why } = entryOf(error);
  return new StoreError(category, `${doing} failed: ${reasonOf(error)} (${why})`, { cause: error });
}

/** Whether the error means that an established connection is lost, not that a statement failed. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof StoreError) return false;
  const code = postgresCodeOf(error);
  // A server that ends a session after a long idle time (57P05) loses nothing.
  return code === '' || !isSqlState(code) || /^08|^57P0[1-4]/.test(code);
}

/** The SQLSTATE, or Node's code; empty if there is none. */
export function postgresCodeOf(error: unknown): string {
  return codeOf(error) ?? '';
}

function entryOf(error: unknown): { readonly category: StoreErrorCode; readonly why: string } {
  const code = postgresCodeOf(error);
  if (code === '') return REFUSALS.test(reasonOf(error)) ? REFUSED : BROKEN;
  const ofClass = isSqlState(code) ? ENTRIES.get(code.slice(0, 2)) : undefined;
  return ENTRIES.get(code) ?? ofClass ?? UNEXPECTED;
}

/** No SQLSTATE class begins as Node's codes do. */
function isSqlState(code: string): boolean {
  return /^[^E][0-9A-Z]{4}$/.test(code);
}

/** If several addresses all fail, they are one error without a message. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message === '' ? postgresCodeOf(error) : error.message;
}

export interface FailureReporter {
  /** An established connection is lost. */
  broken(error: unknown): void;
  /** An error that no caller gets. */
  failed(error: StoreError): void;
  /** The database has responded: the next failure is reported again. */
  worked(): void;
}

interface FailureReporterOptions {
  readonly onError?: (error: StoreError) => void;
  readonly onDisrupted?: () => void;
}

export function createFailureReporter({
  onError,
  onDisrupted,
}: FailureReporterOptions): FailureReporter {
  let isFailing = false;
  let isDisrupted = false;
  const failed = (error: StoreError): void => {
    if (isFailing) return;
    isFailing = true;
    onError?.(error);
  };
  return {
    broken: (error) => {
      failed(toPostgresStoreError('the connection', error));
      if (isDisrupted) return;
      isDisrupted = true;
      onDisrupted?.();
    },
    failed,
    worked: () => {
      isFailing = false;
      isDisrupted = false;
    },
  };
}

/**
 * Contains neither user nor password nor parameters. Throws a `fatal` {@link StoreError} that
 * quotes nothing of it.
 */
export function describePostgresUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new StoreError(
      'fatal',
      'SESSION_STORE_URL is not the URL of a Postgres database; expected ' +
        'postgres://USER:PASSWORD@HOST:PORT/DATABASE, special characters in them as %XX',
    );
  }
  return `postgres://${parsed.host}${parsed.pathname}`;
}

/** The problem, with the address and the remedy. Keeps the code. */
export function describePostgresOpenFailure(address: string, error: StoreError): StoreError {
  return new StoreError(
    error.code,
    `session store ${address}: ${error.message}; ${adviceOn(error)}`,
    { cause: error },
  );
}

function adviceOn({ code, cause }: StoreError): string {
  if (code === 'passing') return 'try again';
  if (code === 'full') return 'give the server more resources';
  const sqlState = postgresCodeOf(cause);
  if (sqlState.startsWith('28')) return 'set another user and password in SESSION_STORE_URL';
  if (sqlState === '3D000') return 'create it, or name another in SESSION_STORE_URL';
  if (sqlState === '42501' || sqlState === '3F000')
    return 'GRANT the user CREATE and USAGE on a schema of its search_path';
  return 'fix the problem, or set SESSION_STORE_URL to another database';
}

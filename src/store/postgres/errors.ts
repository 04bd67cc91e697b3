/** What Postgres's errors mean for a store: the documented table of categories. */
import { StoreError, type StoreErrorCode } from '../store.ts';

/**
 * By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), of which the first
 * two characters are a class, and by the codes of Node.js for connections. A code that is listed
 * itself goes before its class; what is not listed is `fatal`.
 */
const CATEGORIES: readonly (readonly [code: string, category: StoreErrorCode, why: string])[] = [
  ['08', 'passing', 'the connection failed, or a pooler in front has none to give'],
  ['25006', 'passing', 'the server may only be read, as after a failover'],
  ['25P04', 'passing', 'the transaction was cut off'],
  ['26000', 'passing', 'a pooler in front mixes sessions; from now on nothing is prepared in them'],
  ['28', 'fatal', 'the user or the password is refused'],
  ['3D000', 'fatal', 'there is no such database'],
  ['3F000', 'fatal', 'there is no schema in which the user may create tables'],
  ['40', 'passing', 'another transaction was in the way'],
  ['42', 'fatal', 'the tables are not what this version of fly-affinity expects'],
  ['42P05', 'passing', 'a pooler in front mixes sessions; from now on nothing is prepared in them'],
  ['42501', 'fatal', 'the user lacks the right to do that'],
  ['53', 'passing', 'the server has no memory or connections to spare now'],
  ['53100', 'full', 'the disk is full'],
  ['54', 'full', 'a limit of the server is reached'],
  ['55006', 'passing', 'something else is using it'],
  ['55P03', 'passing', 'another session holds the lock'],
  ['57', 'passing', 'the server stops or starts, or has cut the statement off'],
  ['57P04', 'fatal', 'the database was dropped'],
  ['58', 'passing', 'a disk that fails now may answer later'],
  ['XX', 'passing', 'the server, or a pooler in front, has failed for a reason of its own'],
  ['XX001', 'fatal', 'the data in the database are damaged: have it checked and restored'],
  ['XX002', 'fatal', 'an index in the database is damaged: have it checked and rebuilt'],
  ['EAI_AGAIN', 'passing', 'its name can not be resolved now'],
  ['ENOTFOUND', 'passing', 'its name is not known, or not yet'],
  ['ECONNREFUSED', 'passing', 'nobody listens there'],
  ['ECONNRESET', 'passing', 'the connection broke'],
  ['ECONNABORTED', 'passing', 'the connection broke'],
  ['EPIPE', 'passing', 'the connection broke'],
  ['ETIMEDOUT', 'passing', 'it does not answer'],
  ['EHOSTUNREACH', 'passing', 'there is no way to it'],
  ['EHOSTDOWN', 'passing', 'there is no way to it'],
  ['ENETUNREACH', 'passing', 'there is no way to it'],
  ['ENETDOWN', 'passing', 'there is no way to it'],
  ['EADDRNOTAVAIL', 'passing', 'there is no way to it'],
  ['ENOENT', 'passing', 'there is no such socket'],
];

const ENTRIES = new Map(CATEGORIES.map(([code, category, why]) => [code, { category, why }]));

/** A connection that ended or was too slow, where pg gives no code. */
const BROKEN = { category: 'passing', why: 'it broke, or nobody answers' } as const;
/** pg gives no code either where both sides do not agree on TLS, or a password is missing. */
const REFUSALS = /\bSSL\b|\bSASL\b|password/;
const REFUSED = { category: 'fatal', why: 'SESSION_STORE_URL does not fit the server' } as const;
const UNEXPECTED = { category: 'fatal', why: 'that is not expected' } as const;

/** `doing` says what failed, as in `store claim`. A {@link StoreError} says so itself. */
export function toPostgresStoreError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const { category, why } = entryOf(error);
  return new StoreError(category, `${doing} failed: ${reasonOf(error)} (${why})`, { cause: error });
}

/** Whether the error says that a connection which was up is lost, not that a statement failed. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof StoreError) return false;
  const code = postgresCodeOf(error);
  // A server that ends a session which was idle for long (57P05) loses nothing.
  return code === '' || !isSqlState(code) || /^08|^57P0[1-4]/.test(code);
}

/** The SQLSTATE, or Node's code; empty if there is none. */
export function postgresCodeOf(error: unknown): string {
  const isCoded = error instanceof Error && 'code' in error && typeof error.code === 'string';
  return isCoded ? String(error.code) : '';
}

function entryOf(error: unknown): { readonly category: StoreErrorCode; readonly why: string } {
  const code = postgresCodeOf(error);
  if (code === '') return REFUSALS.test(reasonOf(error)) ? REFUSED : BROKEN;
  const ofClass = isSqlState(code) ? ENTRIES.get(code.slice(0, 2)) : undefined;
  return ENTRIES.get(code) ?? ofClass ?? UNEXPECTED;
}

/** No class of them begins as Node's codes do. */
function isSqlState(code: string): boolean {
  return /^[^E][0-9A-Z]{4}$/.test(code);
}

/** Several addresses that all fail are one error without a message. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message === '' ? postgresCodeOf(error) : error.message;
}

export interface FailureReporter {
  /** A connection that was up is lost. */
  broken(error: unknown): void;
  /** Something failed that no caller hears of. */
  failed(error: StoreError): void;
  /** The database has answered: what fails from now on is news. */
  worked(): void;
}

export interface FailureReporterOptions {
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

/** Neither user nor password nor parameters. Throws a `fatal` {@link StoreError} that repeats nothing of it. */
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

/** What was found, with the address and what to do. Keeps the code. */
export function describePostgresOpenFailure(address: string, error: StoreError): StoreError {
  return new StoreError(
    error.code,
    `session store ${address}: ${error.message}; ${adviceOn(error)}`,
    { cause: error },
  );
}

function adviceOn({ code, cause }: StoreError): string {
  if (code === 'passing') return 'try again';
  if (code === 'full') return 'give the server more room';
  const sqlState = postgresCodeOf(cause);
  if (sqlState.startsWith('28')) return 'set another user and password in SESSION_STORE_URL';
  if (sqlState === '3D000') return 'create it, or name another in SESSION_STORE_URL';
  if (sqlState === '42501' || sqlState === '3F000')
    return 'GRANT the user CREATE and USAGE on a schema of its search_path';
  return 'mend that, or set SESSION_STORE_URL to another database';
}

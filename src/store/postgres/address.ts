/** Where the Postgres database is, in words that may be logged: a URL holds a password. */
import { StoreError } from '../store.ts';
import { postgresCodeOf } from './errors.ts';

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

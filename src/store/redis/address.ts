/** The address of a Redis server, parsed from its URL. */
import { StoreError } from '../store.ts';

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly isEncrypted: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** The database number; 0 if the URL has none. */
  readonly database: number;
  /** The URL for messages: without the credentials. */
  readonly shown: string;
}

const DEFAULT_PORT = 6379;

/**
 * `redis://[[user]:password@]host[:port][/database]`, or `rediss://` for TLS
 * (https://www.iana.org/assignments/uri-schemes/prov/redis). The query, which other clients use for
 * their own settings, is ignored. Throws a {@link StoreError} that shows no credentials.
 */
export function parseRedisUrl(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^rediss?:$/.test(url.protocol) || url.hostname === '') {
    throw unusable('it must be redis://HOST or rediss://HOST');
  }
  const { protocol, hostname, port, pathname } = url;
  if (!/^(\/\d*)?$/.test(pathname)) {
    throw unusable(`its path must be the number of a database, got ${JSON.stringify(pathname)}`);
  }
  const isBare = port === '' && pathname.length <= 1;
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? DEFAULT_PORT : Number(port),
    isEncrypted: protocol === 'rediss:',
    username: decoded(url.username),
    password: decoded(url.password),
    database: Number(pathname.slice(1)),
    shown: `${protocol}//${hostname}${isBare ? '' : `:${port || DEFAULT_PORT}${pathname}`}`,
  };
}

function decoded(part: string): string | undefined {
  if (part === '') return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    // The error that is dropped here holds a part of the password.
    throw unusable('a % in the user name or the password must be written as %25');
  }
}

function unusable(why: string): StoreError {
  return new StoreError('fatal', `the URL of the Redis store cannot be used: ${why}`);
}

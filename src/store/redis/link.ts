/**
 * One connection to a Redis server, from connecting to closing. A broken link is never reused: the
 * client library's own reconnect neither bounds the handshake nor notices a server that has
 * stalled.
 */
import { isIP } from 'node:net';
import { createClient } from 'redis';
import type { Clock } from '../../clock.ts';
import { toRedisStoreError } from './errors.ts';
import { ALL_SCRIPTS } from './scripts.ts';
import { StoreError } from '../store.ts';

export interface RedisLink {
  /**
   * Sends at once, in order. Rejects with the server's or the library's error; settles when the
   * server has responded, or the link has closed.
   */
  send(command: readonly string[]): Promise<unknown>;
  /** Ends the commands in flight. Leaves nothing open; a second call does nothing. */
  close(): void;
}

interface DialOptions {
  readonly clock: Clock;
  /** Aborts connecting, or closes the link. */
  readonly signal: AbortSignal;
  /** Called once if an established link breaks; the callee must close it then. */
  readonly onBroken: (error: unknown) => void;
}

const DIAL_MS = 2_000;

/** Above it a command fails at once: about 30 MB, or one second of traffic of a busy sidecar. */
const MAX_UNDER_WAY = 5_000;

/** Rejects with a {@link StoreError} within two seconds; then nothing is left open. */
export function dialRedis(address: RedisAddress, options: DialOptions): Promise<RedisLink> {
  return dial(address, options, loadScripts);
}

/** The same, but leaves the server as it is: loads no script. */
export function dialRedisBare(address: RedisAddress, options: DialOptions): Promise<RedisLink> {
  return dial(address, options, () => Promise.resolve());
}

async function dial(
  address: RedisAddress,
  options: DialOptions,
  prepare: (client: Client) => Promise<unknown>,
): Promise<RedisLink> {
  const { clock, signal, onBroken } = options;
  const ending = new AbortController();
  const client = createClient(clientOptions(address, ending.signal));
  let isUp = false;
  const close = (): void => {
    isUp = false;
    signal.removeEventListener('abort', close);
    client.destroy();
    // The library does not destroy a socket that is still connecting.
    ending.abort();
  };
  client.on('error', (error) => {
    if (isUp) onBroken(error);
    isUp = false;
  });
  signal.addEventListener('abort', close);
  try {
    if (signal.aborted) throw new StoreError('closed', 'the session store is closed');
    await within(
      clock,
      DIAL_MS,
      client.connect().then(() => prepare(client)),
    );
    isUp = true;
    return { send: (command) => client.sendCommand(command), close };
  } catch (error) {
    close();
    throw toRedisStoreError('connecting', error);
  }
}

type Client = ReturnType<typeof createClient>;
type ClientOptions = NonNullable<Parameters<typeof createClient>[0]>;

function clientOptions(address: RedisAddress, signal: AbortSignal): ClientOptions {
  const { host, port, isEncrypted, username, password, database } = address;
  const socket = { host, port, signal, connectTimeout: DIAL_MS, reconnectStrategy: false } as const;
  return {
    // Redis 6.2 and all compatible servers know these commands.
    RESP: 2,
    // Node.js sends a server name (SNI) only if the option is set, and only for a host name.
    socket: isEncrypted
      ? { ...socket, tls: true, ...(isIP(host) === 0 && { servername: host }) }
      : socket,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    database,
    // The first response must be one that this code checks: a server that is full reports it there.
    disableClientInfo: true,
    disableOfflineQueue: true,
    commandsQueueMaxLength: MAX_UNDER_WAY,
    // The library's own timeout ends when the command is written, and costs one AbortSignal each.
    commandOptions: { timeout: 0 },
  };
}

/** Loads the scripts, so that the first call finds them. */
async function loadScripts(client: Client): Promise<void> {
  await Promise.all(ALL_SCRIPTS.map(({ text }) => client.sendCommand(['SCRIPT', 'LOAD', text])));
}

function within(clock: Clock, ms: number, done: Promise<unknown>): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(ms, () => {
      reject(new StoreError('passing', `connecting failed: no response within ${ms} ms`));
    });
    done.then(() => resolve(), reject).finally(cancel);
  });
}

/* The address of a Redis server, parsed from its URL. */

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

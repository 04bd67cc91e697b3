/**
 * One connection to a Redis server, from the dialing to its end. When it breaks it is over: the
 * client library's own way to connect again is not used, as it neither bounds the handshake nor
 * notices a server that stands still.
 */
import { isIP } from 'node:net';
import { createClient } from 'redis';
import type { Clock } from '../../clock.ts';
import type { RedisAddress } from './address.ts';
import { toRedisStoreError } from './errors.ts';
import { ALL_SCRIPTS } from './scripts.ts';
import { StoreError } from '../store.ts';

export interface RedisLink {
  /**
   * Sends at once, behind what was sent before. Rejects with the server's error, or the library's;
   * settles when the server has answered, or the link is over.
   */
  send(command: readonly string[]): Promise<unknown>;
  /** Ends what is under way. Leaves nothing open; called again it does nothing. */
  close(): void;
}

export interface DialOptions {
  readonly clock: Clock;
  /** Ends the dialing, or the link. */
  readonly signal: AbortSignal;
  /** Called once if the link breaks that was up; it is to be closed then. */
  readonly onBroken: (error: unknown) => void;
}

const DIAL_MS = 2_000;

/** Beyond it a command fails at once: about 30 MB, and a second's worth of a busy sidecar. */
const MAX_UNDER_WAY = 5_000;

/** Rejects with a {@link StoreError} within two seconds; nothing is left open then. */
export function dialRedis(address: RedisAddress, options: DialOptions): Promise<RedisLink> {
  return dial(address, options, loadScripts);
}

/** The same, but the server is left as it is: no script is there. */
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
    // What is still connecting the library leaves alone.
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
    // What Redis 6.2 and all that imitate it know without a doubt.
    RESP: 2,
    // Node.js tells a server which certificate is wanted only if asked to, and only by a name.
    socket: isEncrypted
      ? { ...socket, tls: true, ...(isIP(host) === 0 && { servername: host }) }
      : socket,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    database,
    // The first answer must be one that is looked at: a server that is full says so there.
    disableClientInfo: true,
    disableOfflineQueue: true,
    commandsQueueMaxLength: MAX_UNDER_WAY,
    // The library's own limit ends where the command is written, and costs a signal each.
    commandOptions: { timeout: 0 },
  };
}

/** With the scripts loaded, whoever is the first to need one finds it. */
async function loadScripts(client: Client): Promise<void> {
  await Promise.all(ALL_SCRIPTS.map(({ text }) => client.sendCommand(['SCRIPT', 'LOAD', text])));
}

function within(clock: Clock, ms: number, done: Promise<unknown>): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(ms, () => {
      reject(new StoreError('passing', `connecting failed: no answer within ${ms} ms`));
    });
    done.then(() => resolve(), reject).finally(cancel);
  });
}

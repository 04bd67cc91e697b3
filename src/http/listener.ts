/**
 * A listener of the engine: accepts connections up to a limit, passes their requests to a handler, and
 * closes in order.
 */
import { RequestParser } from './request-parser.ts';
import type { BufferBudget } from './buffers.ts';
import {
  createServer,
  type Server,
  type Socket,
  type AddressInfo,
  type ListenOptions,
} from 'node:net';
import type { Clock } from '../clock.ts';
import type { Limits } from './limits.ts';
import { ClientConnection, type ListenerContext } from './client-connection.ts';
import type { RequestHandler } from './served-requests.ts';
import { TCP_KEEP_ALIVE_MS } from './socket.ts';
import type { Sweep } from './sweep.ts';
import type { TrailerOptions } from './chunks.ts';

export interface HttpListenerOptions {
  readonly handler: RequestHandler;
  readonly limits: Limits;
  /** Names, in lower case, that `Connection` may not name. */
  readonly protectedNames: ReadonlySet<string>;
  /** Names, in lower case, of the fields that `selected` of a head contains. */
  readonly selectedNames?: Iterable<string>;
  readonly trailers: TrailerOptions;
  readonly budget: BufferBudget;
  readonly sweep: Sweep;
  readonly clock: Clock;
  /** While the listener is closing, responses carry `Connection: close`. */
  readonly isEnding: () => boolean;
  readonly onFault: (error: unknown) => void;
  /** A connection over the limit was refused. */
  readonly onRefusedConnection: () => void;
  /** What is in flight is about to be aborted. */
  readonly onAborting?: () => void;
}

export interface HttpListener {
  /** The server to listen on. It only accepts connections. */
  readonly server: Server;
  /** Requests and tunnels in flight. */
  busyCount(): number;
  connectionCount(): number;
  /** Accepts nothing, and closes connections once they are idle, until {@link acceptAgain}. */
  stopAccepting(): void;
  /** Rejects as {@link listen}. */
  acceptAgain(address: ListenAddress): Promise<void>;
  /** Aborts what is in flight. */
  destroyAll(): void;
  /** Accepts nothing new, gives what is in flight `graceMs` to end, and aborts the rest. */
  close(graceMs: number): Promise<void>;
}

/** Above this, 'drain' follows every write that the kernel does not take whole. In bytes. */
const HIGH_WATER_MARK = 16_384;
const CLOSE_CHECK_MS = 20;
const TOO_MANY =
  'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n';

export const SERVER_OPTIONS = {
  allowHalfOpen: true,
  noDelay: true,
  // Detects a client that has vanished without a FIN, even if a stream sends nothing.
  keepAlive: true,
  keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
  highWaterMark: HIGH_WATER_MARK,
} as const;

export function createHttpListener(options: HttpListenerOptions): HttpListener {
  const { limits, clock, protectedNames, selectedNames = [] } = options;
  const connections = new Set<ClientConnection>();
  const allClosed = Promise.withResolvers<undefined>();
  let isClosing = false;
  let isPaused = false;
  const parts: ListenerContext = {
    ...options,
    connections,
    parser: new RequestParser({ ...limits, protectedNames, selectedNames }),
    isEnding: () => isClosing || isPaused || options.isEnding(),
    onClosed: (connection) => {
      connections.delete(connection);
      if (isClosing && connections.size === 0) allClosed.resolve(undefined);
    },
  };
  const server = createServer(SERVER_OPTIONS, (socket) => accept(socket));

  function accept(socket: Socket): void {
    if (connections.size < limits.connections) {
      new ClientConnection(socket, parts);
      return;
    }
    options.onRefusedConnection();
    refuseConnection(socket);
  }

  function busyCount(): number {
    let count = 0;
    for (const connection of connections) if (connection.isBusy) count += 1;
    return count;
  }

  function stopAccepting(): void {
    isPaused = true;
    server.close();
    for (const connection of connections) connection.closeWhenIdle();
  }

  async function acceptAgain(address: ListenAddress): Promise<void> {
    if (isClosing || !isPaused) return;
    await listen(server, address);
    isPaused = false;
  }

  function destroyAll(): void {
    options.onAborting?.();
    for (const connection of connections) connection.socket.destroy();
  }

  async function close(graceMs: number): Promise<void> {
    isClosing = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const connection of connections) connection.closeWhenIdle();
    const deadline = clock.monotonicMs() + graceMs;
    while (busyCount() > 0 && clock.monotonicMs() < deadline) await clock.sleep(CLOSE_CHECK_MS);
    if (connections.size === 0) allClosed.resolve(undefined);
    destroyAll();
    await Promise.all([closed, allClosed.promise]);
  }

  const connectionCount = (): number => connections.size;

  return { server, busyCount, connectionCount, stopAccepting, acceptAgain, destroyAll, close };
}

export function refuseConnection(socket: Socket): void {
  socket.on('error', () => undefined);
  socket.write(TOO_MANY);
  socket.destroySoon();
}

/* Opens a listener, and says why that failed. */

export interface ListenAddress {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
}

/** All addresses of IPv6, and of IPv4 through it. */
const ANY_ADDRESS = '::';
const ANY_IPV4_ADDRESS = '0.0.0.0';

/** Resolves to the port once the server listens; rejects with the address and the reason. */
export async function listen(server: Server, { host, port }: ListenAddress): Promise<number> {
  try {
    return await listenOn(server, { host, port });
  } catch (error) {
    const lacksIpv6 = host === ANY_ADDRESS && NO_IPV6.has(codeOf(error));
    if (lacksIpv6) return listenOn(server, { host: ANY_IPV4_ADDRESS, port });
    const address = host.includes(':') ? `[${host}]` : host;
    const reason = REASONS[codeOf(error)] ?? codeOf(error);
    throw new Error(`cannot listen on ${address}:${port}: ${reason}`, { cause: error });
  }
}

/** The error codes of a kernel without IPv6. */
const NO_IPV6: ReadonlySet<string> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL']);

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens on it',
  EACCES: 'not permitted',
  EADDRNOTAVAIL: 'this computer has no such address',
  ENOTFOUND: 'the name is not known',
};

/**
 * How many connections the kernel keeps until they are accepted, capped by net.core.somaxconn. With Node's 511, Linux
 * resets many of a burst that comes while the event loop is busy.
 */
export const BACKLOG = 4_096;

function listenOn(server: Server, options: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ ...options, backlog: BACKLOG }, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
}

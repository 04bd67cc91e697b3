/**
 * Socket.IO's own client, in the crowd. It starts a new session by itself whenever it considers the
 * old one lost, and does not report why.
 */
import { io, type Socket } from 'socket.io-client';
import type { Target } from '../support/target.ts';
import { countedIn, type Client, type Outcome } from './outcome.ts';

/** A response that takes longer never comes, in ms. */
const HANGING_MS = 60_000;
/** How long to wait for a connection before the next check, in ms. */
const CONNECTING_MS = 10_000;
const RECONNECT_MS = 200;

export function createRealSocketIoClient({ url }: Target): Client {
  const socket = io(url, {
    forceNew: true,
    autoConnect: false,
    reconnectionDelay: RECONNECT_MS,
    reconnectionDelayMax: 2 * RECONNECT_MS,
  });

  async function call(): Promise<Outcome> {
    if (!(await isConnected(socket))) return { kind: 'cut', how: 'not connected again yet' };
    const session = socket.io.engine.id;
    const lost = Promise.withResolvers<Outcome>();
    const onDisconnect = (reason: string): void => lost.resolve({ kind: 'cut', how: reason });
    socket.once('disconnect', onDisconnect);
    const acknowledged = socket.timeout(HANGING_MS).emitWithAck('count') as Promise<unknown>;
    const outcome = acknowledged.then(
      (counted) => countedIn(session, JSON.stringify(counted)),
      (error: unknown): Outcome =>
        hasStoppedPolling(socket)
          ? { kind: 'cut', how: 'its client has stopped polling' }
          : { kind: 'wrong', what: `${String(error)}, over ${transportOf(socket)}` },
    );
    const first = await Promise.race([outcome, lost.promise]);
    socket.off('disconnect', onDisconnect);
    return first;
  }

  return { open: call, call, leave: () => void socket.disconnect() };
}

/**
 * engine.io-client polls no more, and reports nothing until its ping timeout, if the WebSocket that
 * it upgrades to is closed while it pauses the polling for it. A server closes it when an upgrade
 * takes longer than 10 s, as on a busy computer. It happens without a proxy too:
 * `_probe` of its `socket.ts` leaves the polling transport paused.
 */
function hasStoppedPolling({ io: { engine } }: Socket): boolean {
  const { name, readyState } = stateOf(engine.transport);
  return name === 'polling' && readyState === 'paused';
}

function transportOf({ io: { engine } }: Socket): string {
  const { name, readyState } = stateOf(engine.transport);
  return `${name} (${readyState})`;
}

/** Its `readyState` is protected in the types. */
function stateOf(transport: object): { readonly name: string; readonly readyState: string } {
  return transport as { readonly name: string; readonly readyState: string };
}

async function isConnected(socket: Socket): Promise<boolean> {
  if (socket.connected) return true;
  // A client that is connecting would request a second session from its server in the same
  // connection.
  if (!socket.active) socket.connect();
  return new Promise((resolve) => {
    const onConnect = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    const timer = setTimeout(() => {
      socket.off('connect', onConnect);
      resolve(false);
    }, CONNECTING_MS);
    socket.once('connect', onConnect);
  });
}

/**
 * The simulated private network (6PN). On Fly.io each Machine has its own address; here all share one. So
 * each Machine dials its own port, which identifies the caller, and the `Host` of the first request on a
 * connection identifies the target; the connection is then joined with the target's peer listener.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { MachineId } from '../session.ts';
import type { Clock } from '../clock.ts';
import { machineName } from '../fly.ts';
import { arrival, WHOLE_LINE, type Line, joinSockets, type LinePair } from './line.ts';
import { runs, type NetworkMachine } from './zone.ts';

interface PrivateNetwork {
  /** The port that this Machine dials to reach any other. */
  openPort(caller: MachineId): Promise<number>;
  /** Closes all connections. */
  close(): Promise<void>;
}

/** The line between two Machines, in one direction. */
type LineBetween = (from: MachineId, to: MachineId) => Line;

const HOST = '127.0.0.1';
/** The maximum of a request head; far more than sidecars send. */
const MAX_HEAD_BYTES = 16 * 1024;
const HEAD_END = '\r\n\r\n';

/** How long a sidecar tries to connect, in ms. Here it is connected already, and gets disconnected. */
const CONNECT_TIMEOUT_MS = 5_000;

interface PrivateNetworkOptions {
  readonly machines: () => readonly NetworkMachine[];
  readonly lineBetween?: LineBetween;
  readonly clock: Clock;
}

export function createPrivateNetwork(options: PrivateNetworkOptions): PrivateNetwork {
  const { machines, lineBetween = () => WHOLE_LINE, clock } = options;
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // 'close' follows; it also closes the other side, if the two are joined already.
    socket.on('error', () => undefined);
  };
  return {
    openPort: async (from) => {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (caller) => {
        track(caller);
        onHead(caller, (head) => void connectTo(caller, from, head));
      });
      servers.push(server);
      server.listen(0, HOST);
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    },
    close: async () => {
      await Promise.all(servers.map((server) => closed(server, sockets)));
    },
  };

  async function connectTo(caller: Socket, from: MachineId, head: Buffer): Promise<void> {
    const meant = (): NetworkMachine | undefined => machineOf(hostOf(head), machines());
    const id = meant()?.id;
    if (id === undefined) {
      // A Machine that does not run has no address: nothing listens there.
      caller.resetAndDestroy();
      return;
    }
    const ways = { there: lineBetween(from, id), back: lineBetween(id, from) };
    // Connecting needs both directions.
    const tooLate = new AbortController();
    const cancelTimeout = clock.after(CONNECT_TIMEOUT_MS, () => tooLate.abort());
    await Promise.all([arrival(ways.there, tooLate.signal), arrival(ways.back, tooLate.signal)]);
    cancelTimeout();
    const machine = tooLate.signal.aborted ? undefined : meant();
    if (!machine || ways.there.state() === 'refusing') caller.resetAndDestroy();
    else if (!caller.destroyed) track(join(caller, machine, head, ways));
  }
}

/** Calls back with the received bytes once they contain a request head; closes connections without one. */
function onHead(caller: Socket, found: (head: Buffer) => void): void {
  let held: Buffer = Buffer.alloc(0);
  const receive = (chunk: Buffer): void => {
    held = Buffer.concat([held, chunk]);
    const isWhole = held.includes(HEAD_END);
    if (!isWhole && held.length <= MAX_HEAD_BYTES) return;
    caller.off('data', receive);
    caller.off('end', leave);
    caller.pause();
    if (isWhole) found(held);
    else caller.resetAndDestroy();
  };
  const leave = (): void => void caller.destroy();
  caller.on('data', receive);
  caller.once('end', leave);
}

function join(caller: Socket, machine: NetworkMachine, head: Buffer, ways: LinePair): Socket {
  const listener = connect({
    host: HOST,
    port: machine.peerPort,
    allowHalfOpen: true,
    noDelay: true,
  });
  listener.write(head);
  joinSockets(caller, listener, ways);
  return listener;
}

/** The host without its port, in lower case. */
function hostOf(head: Buffer): string | undefined {
  const host = /\r\nhost:[ \t]*([^\r\n:]+)/i.exec(head.toString('latin1'))?.[1];
  return host?.trim().toLowerCase();
}

/** Suspended Machines keep their connections but do not respond, as their processes are frozen. */
function machineOf(
  host: string | undefined,
  machines: readonly NetworkMachine[],
): NetworkMachine | undefined {
  const machine = machines.find(({ app, id }) => machineName(app, id) === host);
  return machine && (runs(machine) || machine.state === 'suspended') ? machine : undefined;
}

async function closed(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  server.close();
  for (const socket of sockets) socket.destroy();
  await once(server, 'close');
}

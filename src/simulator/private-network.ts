/**
 * The simulated private network (6PN). On Fly.io each Machine has an address of its own; here all
 * have one, so this listens on one port, reads from the `Host` of a connection's first request which
 * Machine is meant, and joins the connection with that Machine's peer listener.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { machineName } from '../fly.ts';
import { splice } from './tunnel.ts';
import { runs, type NetworkMachine } from './zone.ts';

export interface PrivateNetwork {
  /** The port at which every Machine dials every other. */
  readonly port: number;
  /** Cuts all connections. */
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
/** Of a request's head; far more than sidecars send each other. */
const MAX_HEAD_BYTES = 16 * 1024;
const HEAD_END = '\r\n\r\n';

export async function startPrivateNetwork(
  machines: () => readonly NetworkMachine[],
): Promise<PrivateNetwork> {
  const sockets = new Set<Socket>();
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // What breaks off closes; the other side is told by the splice, if it is joined already.
    socket.on('error', () => undefined);
  };
  const server = createServer({ allowHalfOpen: true }, (caller) => {
    track(caller);
    onHead(caller, (head) => {
      const machine = machineOf(hostOf(head), machines());
      // A Machine that does not run has no address: nothing answers there.
      if (!machine) caller.resetAndDestroy();
      else track(join(caller, machine, head));
    });
  });
  server.listen(0, HOST);
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close: () => closed(server, sockets),
  };
}

/** Calls back with what has come once it holds the head of a request; cuts who sends none. */
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

function join(caller: Socket, machine: NetworkMachine, head: Buffer): Socket {
  const listener = connect({ host: HOST, port: machine.peerPort, allowHalfOpen: true });
  listener.write(head);
  splice(caller, listener);
  return listener;
}

/** The host without its port, in lower case. */
function hostOf(head: Buffer): string | undefined {
  const host = /\r\nhost:[ \t]*([^\r\n:]+)/i.exec(head.toString('latin1'))?.[1];
  return host?.trim().toLowerCase();
}

/** Suspended Machines keep their connections but answer nothing, as their processes stand still. */
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

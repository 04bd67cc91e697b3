/**
 * The socket wire: a request for an upgrade is routed like any other, on a response of its own that
 * ends the connection; only the app's 101 makes the connection a tunnel. So a refused upgrade never
 * leaves a raw pipe to the app behind.
 */
import { ServerResponse, STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Tunnel, UpgradeHead } from './exchange-parts.ts';

/** A tunnel is silent for hours; the kernel finds out whether its other end is still there. In ms. */
const TCP_KEEP_ALIVE_MS = 60_000;

export interface UpgradeRequest {
  /** For every answer but 101; the connection ends with it. */
  readonly res: ServerResponse;
  readonly tunnel: Tunnel | undefined;
}

/** `first` is what the client has sent after the head already. */
export function acceptUpgrade(req: IncomingMessage, socket: Socket, first: Buffer): UpgradeRequest {
  const res = new ServerResponse(req);
  res.shouldKeepAlive = false;
  res.assignSocket(socket);
  // node:http took its own listeners off together with its parser.
  const onDrain = (): void => void res.emit('drain');
  const onError = (): void => void socket.destroy();
  socket.on('drain', onDrain).on('error', onError);
  res.once('finish', () => {
    res.detachSocket(socket);
    socket.end(() => res.emit('close'));
  });
  if (isHttpUpgrade(req)) return { res, tunnel: undefined };
  return { res, tunnel: createTunnel(res, socket, first) };
}

/** `h2c` asks for another version of HTTP, which we decline by answering in this one (RFC 9110 §7.8). */
function isHttpUpgrade(req: IncomingMessage): boolean {
  return req.headers.upgrade?.toLowerCase().startsWith('h2c') ?? false;
}

function createTunnel(res: ServerResponse, client: Socket, first: Buffer): Tunnel {
  return {
    open: (head, upstream, onClose) => {
      res.detachSocket(client);
      client.write(formatHead(head), 'latin1');
      if (first.byteLength > 0) upstream.write(first);
      join(client, upstream, onClose);
    },
  };
}

/** Bytes both ways, with backpressure; an end on one side is an end on the other, a break is a break. */
function join(client: Socket, upstream: Duplex, onClose: () => void): void {
  client.setTimeout(0);
  client.setNoDelay(true).setKeepAlive(true, TCP_KEEP_ALIVE_MS);
  let open = 2;
  const onSocketClose = (other: Duplex, hadError: boolean): void => {
    open -= 1;
    if (open === 0) onClose();
    else if (hadError || !other.writableEnded) other.destroy();
  };
  upstream.on('error', () => upstream.destroy());
  client.on('close', (hadError: boolean) => onSocketClose(upstream, hadError));
  upstream.on('close', (hadError: boolean) => onSocketClose(client, hadError));
  client.pipe(upstream);
  upstream.pipe(client);
}

/** `Connection` and `Upgrade` are of this hop: they are written anew (RFC 9110 §7.6.1). */
function formatHead({ statusCode, upgrade, rawHeaders }: UpgradeHead): string {
  const reason = STATUS_CODES[statusCode] ?? '';
  let head = `HTTP/1.1 ${statusCode} ${reason}\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    head += `${rawHeaders[i] ?? ''}: ${rawHeaders[i + 1] ?? ''}\r\n`;
  }
  return `${head}\r\n`;
}

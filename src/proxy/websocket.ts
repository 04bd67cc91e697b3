/**
 * The socket wire: a request for an upgrade is routed like any other, on a response of its own that
 * ends the connection; only the app's 101 makes the connection a tunnel. So a refused upgrade never
 * leaves a raw pipe to the app behind.
 */
import { ServerResponse, STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { Tunnel, TunnelHead } from './exchange-parts.ts';

/** A tunnel is silent for hours; the kernel finds out whether its other end is still there. In ms. */
const TCP_KEEP_ALIVE_MS = 60_000;
/** What a client may send before it has got its 101, in bytes; the rest waits in the kernel. */
const MAX_EARLY_BYTES = 16_384;
/** How long a client has to take the last answer and to end its side, in ms. */
const LINGER_MS = 5_000;

export interface UpgradeRequest {
  /** For every answer but 101; the connection ends with it. */
  readonly res: ServerResponse;
  readonly tunnel: Tunnel;
}

/**
 * What of `Upgrade` asks for a tunnel; undefined if nothing does, and then the header is ignored, as
 * RFC 9110 §7.8 allows: `h2c` and `HTTP/…` are other versions of what is spoken here already, a body
 * has to be read as HTTP first, and HTTP/1.0 knows no upgrade.
 */
export function tunnelProtocols(req: IncomingMessage): string | undefined {
  const { headers, httpVersion } = req;
  const hasBody =
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
  if (httpVersion === '1.0' || hasBody) return undefined;
  const wanted = (headers.upgrade ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol !== '' && !/^(?:h2c|http\/)/i.test(protocol));
  return wanted.length === 0 ? undefined : wanted.join(', ');
}

/** `first` is what the client has sent after the head already. */
export function acceptUpgrade(
  req: IncomingMessage,
  socket: Socket,
  first: Buffer,
  clock: Clock,
): UpgradeRequest {
  const res = new ServerResponse(req);
  res.shouldKeepAlive = false;
  res.assignSocket(socket);
  // node:http took its own listeners off together with its parser.
  socket.on('drain', () => res.emit('drain')).on('error', () => socket.destroy());
  const early = readEarly(socket, first);
  res.once('finish', () => {
    early.stop();
    res.detachSocket(socket);
    endSlowly(socket, clock, () => res.emit('close'));
  });
  const protocols = tunnelProtocols(req) ?? '';
  return { res, tunnel: createTunnel(protocols, res, socket, early) };
}

interface EarlyBytes {
  /** Ends the looking, and hands over what has come. */
  stop(): readonly Buffer[];
}

/** Reads on while the app is asked: that alone tells that the client has left. */
function readEarly(socket: Socket, first: Buffer): EarlyBytes {
  const chunks: Buffer[] = first.byteLength > 0 ? [first] : [];
  let bytes = first.byteLength;
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes > MAX_EARLY_BYTES) socket.pause();
  };
  const onEnd = (): void => void socket.destroy();
  socket.on('data', onData).on('end', onEnd);
  return {
    stop: () => {
      socket.off('data', onData).off('end', onEnd).pause();
      return chunks;
    },
  };
}

/** The client gets its answer though it was still sending; whatever it does, the socket ends. */
function endSlowly(socket: Socket, clock: Clock, onClose: () => void): void {
  const cancel = clock.after(LINGER_MS, () => socket.destroy());
  socket.once('close', () => {
    cancel();
    onClose();
  });
  socket.resume();
  socket.end();
}

function createTunnel(
  protocols: string,
  res: ServerResponse,
  client: Socket,
  early: EarlyBytes,
): Tunnel {
  return {
    protocols,
    open: (head, upstream, onClose) => {
      res.detachSocket(client);
      client.write(formatHead(head), 'latin1');
      for (const chunk of early.stop()) upstream.write(chunk);
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
  client.on('close', (hadError: boolean) => onSocketClose(upstream, hadError));
  upstream.on('close', (hadError: boolean) => onSocketClose(client, hadError));
  client.pipe(upstream);
  upstream.pipe(client);
}

/** `Connection` and `Upgrade` are of this hop: they are written anew (RFC 9110 §7.6.1). */
function formatHead({ statusCode, upgrade, rawHeaders }: TunnelHead): string {
  const reason = STATUS_CODES[statusCode] ?? '';
  let head = `HTTP/1.1 ${statusCode} ${reason}\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    head += `${rawHeaders[i] ?? ''}: ${rawHeaders[i + 1] ?? ''}\r\n`;
  }
  return `${head}\r\n`;
}

/** Writes requests to a connection: whole, in pieces, or as slowly as the load requires. */
import { systemClock } from '../../../../src/clock.ts';
import { payload } from '../payload.ts';
import type { Connection } from './connection.ts';

export interface Body {
  /** Of the payload. */
  readonly seed: number;
  readonly length: number;
  readonly framing: 'length' | 'chunked';
  /** Size of the pieces that are written at once, and of the chunks. */
  readonly pieceBytes: number;
  /** Between two pieces, in ms. */
  readonly pauseMs: number;
}

export interface Request {
  readonly method: string;
  readonly target: string;
  readonly version?: '1.0' | '1.1';
  /** Whole lines, without their end. */
  readonly fields?: readonly string[];
  readonly body?: Body;
  /** Head bytes that are written at once; all of them if undefined. */
  readonly headPieceBytes?: number;
}

/** A WebSocket handshake (RFC 6455 §1.3). */
export const UPGRADE_FIELDS: readonly string[] = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];

/** Between two pieces of a head, in ms. */
const HEAD_PAUSE_MS = 5;

export function formatHead(request: Request, id: string): string {
  const { method, target, version = '1.1', fields = [], body } = request;
  const lines = [
    `${method} ${target} HTTP/${version}`,
    'Host: soak.test',
    `fly-request-id: ${id}`,
    `x-soak-id: ${id}`,
    ...fields,
    ...(body ? [framingField(body)] : []),
  ];
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function framingField({ framing, length }: Body): string {
  return framing === 'chunked' ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`;
}

export async function writeHead(
  connection: Connection,
  request: Request,
  id: string,
): Promise<void> {
  const head = formatHead(request, id);
  const pieceBytes = request.headPieceBytes ?? head.length;
  for (let at = 0; at < head.length; at += pieceBytes) {
    if (at > 0) await systemClock.sleep(HEAD_PAUSE_MS);
    await connection.write(head.slice(at, at + pieceBytes));
  }
}

/** `isWanted` is called before each piece. Resolves with whether all of them were written. */
export async function writeBody(
  connection: Connection,
  body: Body,
  isWanted: () => boolean = () => true,
): Promise<boolean> {
  const { seed, length, framing, pieceBytes, pauseMs } = body;
  for (let at = 0; at < length; at += pieceBytes) {
    if (!isWanted()) return false;
    const piece = payload(seed, Math.min(pieceBytes, length - at), at);
    await connection.write(framing === 'chunked' ? chunkOf(piece) : piece);
    if (pauseMs > 0) await systemClock.sleep(pauseMs);
  }
  if (framing === 'chunked') await connection.write('0\r\n\r\n');
  return true;
}

function chunkOf(piece: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(`${piece.length.toString(16)}\r\n`),
    piece,
    Buffer.from('\r\n'),
  ]);
}

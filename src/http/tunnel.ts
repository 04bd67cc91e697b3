/**
 * A tunnel after a 101: bytes both ways, with backpressure; an end on one side is an end on the other,
 * a break is a break. Both connections stay open and pass on what they read.
 *
 *     client end  <── bytes, FIN, RST ──>  upstream end
 *
 * When one side has ended and the other sends nothing for too long, both are closed.
 */
import type { BufferOwnership } from './socket.ts';

/** One side of a tunnel: what the other side can do to it. */
export interface TunnelEnd {
  /** Whether it may be sent more now. */
  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean;
  /** It can take more again: the side that was read from goes on. */
  resume(): void;
  /** The other side has ended. */
  end(): void;
  /** The other side is closed, by a reset or without one. */
  closeTunnel(resets: boolean): void;
}

/** An upstream may only switch to what it was asked for (RFC 9110 §7.8). */
export function isAskedFor(chosen: string | undefined, asked: string | undefined): boolean {
  if (chosen === undefined || asked === undefined) return false;
  const protocols = asked.toLowerCase().split(', ');
  return chosen
    .toLowerCase()
    .split(',')
    .every((protocol) => protocols.includes(protocol.trim()));
}

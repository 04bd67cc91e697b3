/** What a request, all the requests of a client, and a tunnel need of the client's connection. */
import type { Socket } from 'node:net';
import type { PausableReads, TunnelEnd } from './socket.ts';

/** For one request. */
export interface RequestConnection {
  readonly socket: Socket;
  /** The listener is closing: the client is to use another connection next time. */
  readonly isEnding: boolean;
  setBodyPaused(isPaused: boolean): void;
  /** Whether what is left of the body is short enough to be read and dropped. */
  mayDrainBody(): boolean;
  /** The response is complete: `closes` if the connection must not be used again. */
  finish(closes: boolean): void;
  /** Ends the connection, by a reset if the client would otherwise take the response for complete. */
  destroy(resets: boolean): void;
  /** The connection belongs to the tunnel from now on. */
  openTunnel(tunnel: TunnelEnd): TunnelEnd;
  account(): void;
}

/** For a tunnel. */
export interface TunnelledConnection {
  readonly socket: Socket;
  /** The client has ended its side. */
  readonly hasEnded: boolean;
  pause(): void;
  resume(): void;
  /** Counts the bytes that the connection holds. */
  account(): void;
  /** The tunnel is over. What is written still goes out. */
  onTunnelClosed(): void;
}

/** For the requests. */
export interface ServingConnection extends Omit<TunnelledConnection, 'onTunnelClosed'> {
  readonly reads: Pick<PausableReads, 'isPaused'>;
  /** The listener is closing. */
  readonly isEnding: boolean;
  /** Runs a step outside an event of the connection: an exception ends the connection. */
  guard(step: () => void): void;
  /** The client gets its response though it may still send. No further request is read. */
  linger(): void;
  /** Closes once everything is written. */
  closeSoon(): void;
  /** Closes the connection if the client has not read for too long. */
  endStalled(nowMs: number): void;
  /** `kept`: what the client has sent behind its request. */
  openTunnel(upstream: TunnelEnd, kept: Buffer | undefined): TunnelEnd;
}

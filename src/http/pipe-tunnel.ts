/**
 * The tunnel of a request that asked for an upgrade. The client's bytes pass through it, so that the owner of
 * the pipe receives the end of the tunnel.
 */
import type { IncomingRequest } from './incoming-request.ts';
import type { BufferOwnership } from './socket.ts';
import type { TunnelEnd } from './tunnel.ts';
import type { UpstreamTunnel } from './upstream-request.ts';

export class PipeTunnel implements TunnelEnd {
  readonly #upstream: UpstreamTunnel;
  readonly #onClosed: () => void;
  #client: TunnelEnd | undefined;
  #isOpen = false;

  constructor(upstream: UpstreamTunnel, onClosed: () => void) {
    this.#upstream = upstream;
    this.#onClosed = onClosed;
  }

  /** `head` is the whole head of the 101, `rest` what has come behind it. */
  open(incoming: IncomingRequest, head: string, rest: Buffer): void {
    this.#isOpen = true;
    const client = incoming.openTunnel(head, this);
    if (!client) {
      this.closeTunnel(false);
      return;
    }
    this.#client = client;
    if (rest.length > 0) client.write(rest, 0, rest.length, 'kept');
    this.#upstream.join(client);
  }

  /** Closes the upstream's side. The owner gets no call. */
  abort(): void {
    this.#isOpen = false;
    this.#upstream.closeTunnel(false);
  }

  /** Closes the client's side. False: it is not part of the tunnel yet. */
  closeClient(): boolean {
    this.#client?.closeTunnel(false);
    return this.#client !== undefined;
  }

  // What the client's connection calls

  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    return this.#upstream.write(bytes, start, end, ownership);
  }

  resume(): void {
    this.#upstream.resume();
  }

  end(): void {
    this.#upstream.end();
  }

  closeTunnel(resets: boolean): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#upstream.closeTunnel(resets);
    this.#onClosed();
  }
}

/** A raw socket client that sends the given packets and records the received bytes. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longer than anything takes, even on a busy computer. In ms. */
const HANG_MS = 20_000;

export class RawPeer {
  readonly socket: Socket;
  received = '';
  isClosed = false;
  /** The other side reset the connection. */
  wasReset = false;
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.received += text;
      this.#wake?.();
    });
    socket.on('error', () => (this.wasReset = true));
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake?.();
    });
  }

  static async open(port: number): Promise<RawPeer> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    await once(socket, 'connect');
    const peer = new RawPeer(socket);
    // A half-open socket never closes by itself.
    socket.on('end', () => void socket.end());
    return peer;
  }

  /** Sends one packet for each turn of the event loop, while the other side accepts them. */
  async send(pieces: readonly Buffer[]): Promise<void> {
    for (const piece of pieces) {
      if (this.isClosed) return;
      this.socket.write(piece);
      await nextTurn();
    }
  }

  /** Returns false if the connection hangs before the condition is true. */
  async until(isTrue: () => boolean): Promise<boolean> {
    const deadline = performance.now() + HANG_MS;
    while (!isTrue() && !this.isClosed) {
      const waitMs = deadline - performance.now();
      if (waitMs <= 0) return false;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    return true;
  }

  /** Returns false if the connection hangs before the other side closes. */
  async untilClosed(): Promise<boolean> {
    return (await this.until(() => this.isClosed)) && this.isClosed;
  }
}

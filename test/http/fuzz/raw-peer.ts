/** A client on a bare socket that sends packets as they are given and says what came back. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Nothing takes so long, however busy the computer is. In ms. */
const HANG_MS = 20_000;

export class RawPeer {
  readonly socket: Socket;
  received = '';
  isClosed = false;
  /** The other side broke the connection off, instead of ending it. */
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
    // A half-open one would never close by itself.
    socket.on('end', () => void socket.end());
    return peer;
  }

  /** One packet a turn of the event loop, as far as the other side takes them. */
  async send(pieces: readonly Buffer[]): Promise<void> {
    for (const piece of pieces) {
      if (this.isClosed) return;
      this.socket.write(piece);
      await nextTurn();
    }
  }

  /** Whether it came true before the connection hung. */
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

  /** Whether the other side has closed before the connection hung. */
  async untilClosed(): Promise<boolean> {
    return (await this.until(() => this.isClosed)) && this.isClosed;
  }
}

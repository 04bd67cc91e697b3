/**
 * Sends a request's body from a stream, exactly as long as the head has said, or in chunks, and no
 * faster than the connection takes it.
 *
 *   sending --all that was declared, or the stream's end--> sent
 *      |                                                     '--a byte too many--> failed
 *      '--error, too few bytes, closed early--> failed
 *   any --stop--> stopped: the stream is destroyed unless it had ended
 */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';

export interface BodySenderEvents {
  /** The whole body was handed to the connection. */
  onSent(): void;
  /** The connection takes no more for now (true), or again (false). */
  onStalled(isStalled: boolean): void;
  /** The body is not what was announced: its connection is out of step. */
  onFailed(cause: Error): void;
}

export class BodySender {
  readonly #body: Readable;
  readonly #socket: Socket;
  readonly #events: BodySenderEvents;
  /** Undefined: in chunks. */
  #left: number | undefined;
  #isSent = false;
  #hasEnded = false;

  constructor(
    body: Readable,
    length: number | undefined,
    socket: Socket,
    events: BodySenderEvents,
  ) {
    this.#body = body;
    this.#left = length;
    this.#socket = socket;
    this.#events = events;
  }

  get isSent(): boolean {
    return this.#isSent;
  }

  start(): void {
    this.#socket.on('drain', this.#onDrain);
    this.#body.on('error', this.#onError).on('close', this.#onClose);
    this.#body.on('end', this.#onEnd).on('data', this.#onData);
    // It will not say again that it has ended, or was closed, before anybody listened.
    if (this.#body.readableEnded || this.#body.destroyed) this.#onClose();
    else if (this.#left === 0) this.#becomeSent();
  }

  /** Nothing more is sent, and nothing reported. */
  stop(): void {
    this.#socket.off('drain', this.#onDrain);
    this.#body.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose);
    // The call's own listener for errors stays: a stream that is being destroyed may report one.
    this.#body.off('error', this.#onError);
    if (!this.#hasEnded) this.#body.destroy();
  }

  readonly #onData = (chunk: Buffer | string): void => {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (bytes.length === 0) return;
    if (this.#left !== undefined && bytes.length > this.#left) {
      this.#events.onFailed(new Error('the body is longer than its Content-Length'));
      return;
    }
    const goesOn = this.#left === undefined ? this.#writeChunk(bytes) : this.#socket.write(bytes);
    if (this.#left !== undefined) this.#left -= bytes.length;
    if (!goesOn) this.#pause();
    if (this.#left === 0) this.#becomeSent();
  };

  #writeChunk(bytes: Buffer): boolean {
    const socket = this.#socket;
    socket.cork();
    socket.write(`${bytes.length.toString(16)}\r\n`, 'latin1');
    socket.write(bytes);
    const goesOn = socket.write('\r\n', 'latin1');
    socket.uncork();
    return goesOn;
  }

  #pause(): void {
    this.#body.pause();
    this.#events.onStalled(true);
  }

  readonly #onDrain = (): void => {
    this.#body.resume();
    this.#events.onStalled(false);
  };

  readonly #onEnd = (): void => {
    this.#hasEnded = true;
    if (this.#isSent) return;
    if (this.#left !== undefined) {
      this.#events.onFailed(new Error('the body is shorter than its Content-Length'));
      return;
    }
    this.#socket.write('0\r\n\r\n', 'latin1');
    this.#becomeSent();
  };

  #becomeSent(): void {
    this.#isSent = true;
    this.#events.onSent();
  }

  readonly #onError = (error: Error): void => {
    this.#events.onFailed(error);
  };

  readonly #onClose = (): void => {
    if (!this.#hasEnded) this.#events.onFailed(new Error('the body was closed before its end'));
  };
}

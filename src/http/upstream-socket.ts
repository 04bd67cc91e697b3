/**
 * A socket to an upstream. It reads into buffers that are handed to it, and it survives a failed
 * write: an app that responds before it has read the whole request, and closes, makes the next write
 * fail while its response is already there to be read.
 */
import { Socket } from 'node:net';

export interface SocketOwner {
  /** Where the next read goes. */
  nextBuffer(): Buffer;
  /** The bytes are good for the time of the call. Whether to read on. */
  onRead(length: number, bytes: Buffer): boolean;
  /** The other side has ended. */
  onReadEnd(): void;
  /** A write has failed. Whether to read on all the same; else the socket is destroyed. */
  onWriteFailed(): boolean;
}

/** A peer that has vanished without a word is found out, however silent a stream is. In ms. */
const TCP_KEEP_ALIVE_MS = 60_000;

export class UpstreamSocket extends Socket {
  readonly #owner: SocketOwner;

  constructor(owner: SocketOwner) {
    super({
      // What an end means is for its owner to say.
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      onread: {
        buffer: () => owner.nextBuffer(),
        callback: (length, bytes) => owner.onRead(length, bytes as Buffer),
      },
    });
    this.#owner = owner;
  }

  /** With `onread` nothing is pushed but the end. */
  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    if (chunk === null) this.#owner.onReadEnd();
    return super.push(chunk, encoding);
  }

  override destroy(error?: Error): this {
    if (isWriteFailure(error) && !this.destroyed && this.#owner.onWriteFailed()) return this;
    return super.destroy(error);
  }
}

function isWriteFailure(error: Error | undefined): boolean {
  return error !== undefined && 'syscall' in error && error.syscall === 'write';
}

/**
 * Reads, writes and resets sockets of node:net at less cost, and with more care, than their streams do by
 * themselves.
 */
import { Socket } from 'node:net';
import type { Writable } from 'node:stream';

/**
 * Passes each read to `onRead`, without the stream's buffer, its 'data' event and the `process.nextTick()`
 * that each read costs there: together they take as long as parsing a head. If `onRead` returns false,
 * reading pauses until {@link resumeReads}. 'data' is not emitted any more, the other events are.
 */
function readDirectly(socket: Socket, onRead: (bytes: Buffer) => boolean): void {
  // node:net calls `push` with each read, and with null at the end. It pauses when that returns false.
  socket.push = (chunk: Buffer | null): boolean =>
    chunk === null ? Socket.prototype.push.call(socket, null) : onRead(chunk);
  // 'end' is only emitted by a stream that flows.
  socket.resume();
}

/** Resumes the reads of {@link readDirectly}, if they are paused. */
function resumeReads(socket: Socket): void {
  if (!socket.destroyed) socket._read(0);
}

/** Up to this size a copy into a string is cheaper than a second write. In bytes. */
export const MAX_TEXT_BYTES = 16_384;
/** How many bytes may wait in a socket before the source pauses. */
export const MAX_WAITING_BYTES = 65_536;

/**
 * Whose memory the bytes are in: `kept` belongs to the socket, `shared` is read into again right after the
 * call, `lent` is not read into before the socket has written all of it.
 */
export type BufferOwnership = 'kept' | 'shared' | 'lent';

/** The longest copy, in bytes; longer ones get memory of their own. */
const COPY_BYTES = 65_536;
/** Slow clients may keep all of these: then each copy gets memory of its own, of just its length. */
const MAX_COPIES = 16;

/**
 * Copies of bytes that a socket writes later, in memory that is used again: V8 counts each new buffer of this size as
 * garbage to come, and marked the whole heap once in a hundred responses of 1 MB.
 */
export class Copies {
  readonly #free: Buffer[] = [];
  #count = 0;

  /** Writes what is in the bytes now. Returns what the stream says to that. */
  write(stream: Writable, bytes: Buffer): boolean {
    const memory = bytes.length <= COPY_BYTES ? this.#take() : undefined;
    if (memory === undefined) return stream.write(Buffer.from(bytes));
    bytes.copy(memory);
    // Called too if the stream is destroyed before it has written them.
    return stream.write(memory.subarray(0, bytes.length), () => this.#free.push(memory));
  }

  #take(): Buffer | undefined {
    const free = this.#free.pop();
    if (free !== undefined || this.#count === MAX_COPIES) return free;
    this.#count += 1;
    return Buffer.allocUnsafeSlow(COPY_BYTES);
  }
}

const copies = new Copies();

/**
 * Writes in as few system calls as possible: short bytes leave together with the text before them as one
 * latin-1 string, which node:net writes at once and without a buffer. Returns whether the source may go
 * on; if not, the socket emits 'drain' later.
 */
export function writeBytes(
  socket: Socket,
  prefix: string,
  bytes: Buffer,
  start: number,
  end: number,
  ownership: BufferOwnership,
): boolean {
  const length = end - start;
  if (length <= MAX_TEXT_BYTES) {
    return writeText(socket, prefix + bytes.toString('latin1', start, end));
  }
  if (prefix !== '') socket.write(prefix, 'latin1');
  const part = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
  // What the kernel does not take at once is read from this memory later.
  const isTaken = ownership === 'shared' ? copies.write(socket, part) : socket.write(part);
  if (ownership === 'lent') return socket.writableLength === 0;
  return isTaken || socket.writableLength < MAX_WAITING_BYTES;
}

export function writeText(socket: Socket, text: string): boolean {
  return socket.write(text, 'latin1') || socket.writableLength < MAX_WAITING_BYTES;
}

/**
 * Ends a connection by a reset, so that the other side does not take it for a proper end. Bytes that the
 * other side has not received yet are lost. Closes without a reset where it is too late for one.
 */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  // libuv resets no socket that is just being shut down, and Node.js then leaves it open for ever. So
  // `resetAndDestroy` is of no use here: it begins with a shutdown, and a `destroy` may come before its end.
  const isShuttingDown = socket.writableEnded && !socket.writableFinished;
  (socket as { resetAndClosing?: boolean }).resetAndClosing = !isShuttingDown;
  socket.destroy();
}

export interface SocketOwner {
  /** Where the next read goes. */
  nextBuffer(): Buffer;
  /** The bytes are valid during the call only. */
  onRead(length: number, bytes: Buffer): void;
  /** The other side has ended. */
  onReadEnd(): void;
  /** A write has failed. Returns whether to read on all the same; else the socket is destroyed. */
  onWriteFailed(): boolean;
}

/** Detects a peer that has vanished without a FIN, even if a stream sends nothing. In ms. */
export const TCP_KEEP_ALIVE_MS = 60_000;

/**
 * A socket to an upstream. It reads into buffers of its owner, and it survives a failed write: an app that
 * responds before it has read the whole request, and closes, makes the next write fail while its response
 * is already there to be read.
 */
export class UpstreamSocket extends Socket {
  readonly #owner: SocketOwner;
  #isReadPaused = false;

  constructor(owner: SocketOwner) {
    super({
      // The owner decides what an end means.
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      onread: {
        buffer: () => owner.nextBuffer(),
        callback: (length, bytes) => {
          owner.onRead(length, bytes as Buffer);
          return !this.#isReadPaused;
        },
      },
    });
    this.#owner = owner;
  }

  get isReadPaused(): boolean {
    return this.#isReadPaused;
  }

  pauseReads(): void {
    this.#isReadPaused = true;
    this.pause();
  }

  /** The same from within a read, at less cost. */
  pauseAfterRead(): void {
    this.#isReadPaused = true;
  }

  resumeReads(): void {
    if (!this.#isReadPaused) return;
    this.#isReadPaused = false;
    this.resume();
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

/* The reads of a client's socket. A read may still arrive after they were paused: it is delivered later. */

export class PausableReads {
  readonly #socket: Socket;
  readonly #onRead: (bytes: Buffer) => void;
  #isPaused = false;
  /** The read that arrived after the pause. */
  #overdue: Buffer | undefined;

  /** `onRead` must not throw. */
  constructor(socket: Socket, onRead: (bytes: Buffer) => void) {
    this.#socket = socket;
    this.#onRead = onRead;
    readDirectly(socket, (bytes) => this.#take(bytes));
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Received and not delivered. */
  get overdueBytes(): number {
    return this.#overdue?.length ?? 0;
  }

  pause(): void {
    this.#isPaused = true;
  }

  /** Whether they were paused. Delivers nothing within the call. */
  resume(): boolean {
    if (!this.#isPaused) return false;
    this.#isPaused = false;
    if (this.#overdue === undefined) resumeReads(this.#socket);
    else setImmediate(() => this.#takeOverdue());
    return true;
  }

  /** The socket is closed. */
  drop(): void {
    this.#overdue = undefined;
  }

  /** Whether to read on. */
  #take(bytes: Buffer): boolean {
    if (this.#isPaused) this.#overdue = bytes;
    else this.#onRead(bytes);
    return !this.#isPaused;
  }

  #takeOverdue(): void {
    const bytes = this.#overdue;
    if (this.#isPaused || bytes === undefined) return;
    this.#overdue = undefined;
    if (this.#take(bytes)) resumeReads(this.#socket);
  }
}

/**
 * One side of a tunnel after a 101: what the other side can do to it. Bytes go both ways, with
 * backpressure; an end on one side is an end on the other, a break is a break. When one side has ended
 * and the other sends nothing for too long, both are closed.
 */
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

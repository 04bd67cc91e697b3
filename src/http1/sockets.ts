/**
 * The two ways to read from a socket. The usual one reads into buffers of ours (`onread`), which
 * spares an allocation and the whole stream machinery per read; such a socket can't be given away,
 * so one that may become a tunnel is read as a stream.
 */
import { connect, type Socket } from 'node:net';
import type { AnswerSink } from '../proxy/upstream.ts';
import { ReadBuffers, type BufferPool } from './read-buffers.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ByteSource {
  readonly socket: Socket;
  /** No more bytes after those that are on their way, until `resume`. */
  pause(): void;
  /** Calls nobody within its call. */
  resume(): void;
  /** Hands on part of what was just read, or of what was kept of it. */
  handOn(bytes: Buffer, start: number, end: number, sink: AnswerSink): void;
  /** After a read was looked at: how much it was, and whether it was part of a body that goes on. */
  onRead(byteCount: number, isMoreExpected: boolean): void;
  /** Stops reading; the socket is as if nobody had ever read from it. */
  release(): void;
}

/** The bytes are good for the time of the call. */
export type OnBytes = (bytes: Buffer, byteCount: number) => void;
export type OpenSource = (onBytes: OnBytes) => ByteSource;

/** A peer that has vanished without a word is found out, however silent a stream is. In ms. */
const TCP_KEEP_ALIVE_MS = 60_000;

/** `allowHalfOpen`: what an end means is for us to say; and a tunnel may end on one side. */
const SOCKET_OPTIONS = {
  noDelay: true,
  allowHalfOpen: true,
  keepAlive: true,
  keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
};

/** Connects to `address`; all connections share the pool. */
export function openPooled(address: Address, pool: BufferPool): OpenSource {
  return (onBytes) => {
    const buffers = new ReadBuffers(pool);
    let isPaused = false;
    const callback = (byteCount: number, bytes: Uint8Array): boolean => {
      onBytes(bytes as Buffer, byteCount);
      // False stops the reading.
      return !isPaused;
    };
    const onread = { buffer: () => buffers.current, callback };
    const socket = connect({ ...address, ...SOCKET_OPTIONS, onread });
    return {
      socket,
      pause: () => void (isPaused = true),
      resume: () => {
        isPaused = false;
        socket.resume();
      },
      handOn: (bytes, start, end, sink) => buffers.handOn(bytes, start, end, sink),
      onRead: (byteCount, isMoreExpected) => buffers.prepare(byteCount, isMoreExpected),
      release: () => undefined,
    };
  };
}

/** Connects to `address` for one call, which may end in a tunnel. */
export function openPlain(address: Address): OpenSource {
  return (onBytes) => {
    const socket = connect({ ...address, ...SOCKET_OPTIONS });
    let isReading = true;
    const read = (): void => {
      while (isReading) {
        const bytes = socket.read() as Buffer | null;
        if (bytes === null) return;
        onBytes(bytes, bytes.length);
      }
    };
    // Not `data`: a socket that was flowing once would lose bytes, or stand still, in other hands.
    socket.on('readable', read);
    return {
      socket,
      pause: () => void (isReading = false),
      resume: () => {
        isReading = true;
        process.nextTick(read);
      },
      handOn: (bytes, start, end, sink) => sink.onData(bytes.subarray(start, end)),
      onRead: () => undefined,
      release: () => {
        isReading = false;
        socket.off('readable', read);
      },
    };
  };
}

/** Writes lines to a file descriptor in batches, off the request path. */
import { write as writeToFile } from 'node:fs';
import type { Cancel, Clock } from '../clock.ts';

export interface LineWriter {
  /** Takes a line with its line break. Never throws, never waits; after `close` it is dropped. */
  write(line: string): void;
  /** Resolves when everything is written, or can't be. Leaves the file descriptor open. */
  close(): Promise<void>;
}

interface LineWriterOptions {
  readonly fd: number;
  readonly clock: Clock;
}

/** Large, because waking a thread of the pool for each batch costs more than writing it. */
const BATCH_BYTES = 65_536;
/** How long a line waits for more lines, in ms. */
const BATCH_WAIT_MS = 200;
/** The memory that a reader that does not read can cost; beyond it lines are dropped. */
const MAX_WAITING_BYTES = 8_388_608;
const RETRY_MS = 20;
/** Of one UTF-16 code unit in UTF-8. */
const MAX_BYTES_PER_UNIT = 3;

/**
 * One write is in flight at a time; lines that arrive meanwhile are the next batch. If the reader is
 * gone (EPIPE) or the disk is full, the lines are lost and nothing else happens.
 */
export function createLineWriter({ fd, clock }: LineWriterOptions): LineWriter {
  const waiting = createBatches();
  let isWriting = false;
  let isBroken = false;
  let cancelWait: Cancel | undefined;
  let whenClosed: PromiseWithResolvers<void> | undefined;

  const writeWaiting = (): void => {
    cancelWait?.();
    cancelWait = undefined;
    isWriting = true;
    writeFrom(waiting.take(), 0);
  };
  const writeFrom = (batch: Buffer, offset: number): void => {
    writeToFile(fd, batch, offset, (error, writtenBytes) => {
      if (error?.code === 'EAGAIN') {
        clock.after(RETRY_MS, () => writeFrom(batch, offset));
        return;
      }
      if (error) isBroken = true;
      const nextOffset = offset + writtenBytes;
      if (!isBroken && nextOffset < batch.length) {
        writeFrom(batch, nextOffset);
        return;
      }
      isWriting = false;
      writeNext();
    });
  };
  const writeNext = (): void => {
    if (isBroken) waiting.drop();
    const bytes = waiting.bytes();
    const isDue = bytes >= BATCH_BYTES || (whenClosed && bytes > 0);
    if (isDue) writeWaiting();
    else if (bytes > 0) cancelWait ??= clock.after(BATCH_WAIT_MS, writeWaiting);
    else whenClosed?.resolve();
  };

  return {
    write: (line) => {
      if (whenClosed || isBroken || waiting.bytes() > MAX_WAITING_BYTES) return;
      waiting.add(line);
      if (!isWriting) writeNext();
    },
    close: () => {
      if (whenClosed) return whenClosed.promise;
      whenClosed = Promise.withResolvers();
      cancelWait?.();
      if (!isWriting) writeNext();
      return whenClosed.promise;
    },
  };
}

interface Batches {
  add(line: string): void;
  bytes(): number;
  /** The oldest batch. Must not be called when nothing waits. */
  take(): Buffer;
  drop(): void;
}

/** Encodes each line at once, into a buffer that exists already: no long string is ever built. */
function createBatches(): Batches {
  let full: Buffer[] = [];
  let fullBytes = 0;
  let open = Buffer.allocUnsafe(2 * BATCH_BYTES);
  let openBytes = 0;

  const close = (): void => {
    full.push(open.subarray(0, openBytes));
    fullBytes += openBytes;
    open = Buffer.allocUnsafe(2 * BATCH_BYTES);
    openBytes = 0;
  };

  return {
    add: (line) => {
      if (openBytes + line.length * MAX_BYTES_PER_UNIT > open.length) close();
      if (line.length * MAX_BYTES_PER_UNIT > open.length) {
        const long = Buffer.from(line);
        full.push(long);
        fullBytes += long.length;
        return;
      }
      openBytes += open.write(line, openBytes);
    },
    bytes: () => fullBytes + openBytes,
    take: () => {
      if (full.length === 0) close();
      const batch = full.shift() ?? Buffer.alloc(0);
      fullBytes -= batch.length;
      return batch;
    },
    drop: () => {
      full = [];
      fullBytes = 0;
      openBytes = 0;
    },
  };
}

/**
 * Writes lines to a file descriptor in batches, off the event loop. pino's own destination (sonic-boom)
 * measures all that waits anew with every line, which costs three times as much as making the line.
 */
import { write as writeToFile } from 'node:fs';
import type { Cancel, Clock } from './clock.ts';

export interface LineWriter {
  /** Takes a line with its line break. Never throws, never waits; after `close` it is dropped. */
  write(line: string): void;
  /** Resolves once all is written, or can't be. Leaves the descriptor open: it is its owner's. */
  close(): Promise<void>;
}

export interface LineWriterOptions {
  readonly fd: number;
  readonly clock: Clock;
}

const BATCH_CHARACTERS = 16_384;
/** How long a line waits for others, in ms. */
const BATCH_WAIT_MS = 200;
/** What a reader that reads nothing can cost; beyond it lines are dropped rather than memory filled. */
const MAX_WAITING_CHARACTERS = 8_388_608;
const RETRY_MS = 20;

/**
 * One write is under way at a time; lines that arrive meanwhile are the next one. A reader that is
 * gone (EPIPE) or a full disk costs the lines and nothing else.
 */
export function createLineWriter({ fd, clock }: LineWriterOptions): LineWriter {
  let waiting = '';
  let isWriting = false;
  let isBroken = false;
  let cancelWait: Cancel | undefined;
  let whenClosed: PromiseWithResolvers<void> | undefined;

  const writeWaiting = (): void => {
    cancelWait?.();
    cancelWait = undefined;
    isWriting = true;
    const batch = Buffer.from(waiting);
    waiting = '';
    writeFrom(batch, 0);
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
    if (isBroken) waiting = '';
    const isDue = waiting.length >= BATCH_CHARACTERS || (whenClosed && waiting.length > 0);
    if (isDue) writeWaiting();
    else if (waiting.length > 0) cancelWait ??= clock.after(BATCH_WAIT_MS, writeWaiting);
    else whenClosed?.resolve();
  };

  return {
    write: (line) => {
      if (whenClosed || isBroken || waiting.length > MAX_WAITING_CHARACTERS) return;
      waiting += line;
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

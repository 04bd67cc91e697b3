/** Timeouts for streams whose other side stalls. */
import type { Clock } from '../clock.ts';

export interface StallOptions {
  readonly clock: Clock;
  /** The longest wait for the next chunk, or for the reader to take one. */
  readonly timeoutMs: number;
  /** Called after the timeout: ends the stream that is waited for. */
  readonly onStall: () => void;
}

/** Passes chunks on; times out when the source sends none. */
export async function* withReadTimeout<Chunk>(
  chunks: AsyncIterable<Chunk>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Chunk> {
  let cancel = clock.after(timeoutMs, onStall);
  try {
    for await (const chunk of chunks) {
      cancel();
      yield chunk;
      cancel = clock.after(timeoutMs, onStall);
    }
  } finally {
    cancel();
  }
}

/** Passes chunks on; times out when the reader does not take one. */
export async function* withWriteTimeout<Chunk>(
  chunks: AsyncIterable<Chunk>,
  { clock, timeoutMs, onStall }: StallOptions,
): AsyncGenerator<Chunk> {
  for await (const chunk of chunks) {
    const cancel = clock.after(timeoutMs, onStall);
    try {
      yield chunk;
    } finally {
      cancel();
    }
  }
}

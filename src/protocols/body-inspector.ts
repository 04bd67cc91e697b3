/**
 * A tap looks at the beginning of an answer's body on its way to the client, and finds the id that it
 * teaches. What is held is bounded, and what can't teach waits for nothing.
 */
import type { BodyDiscovery, DiscoveredId, Protocol } from './protocol.ts';
import { parseSessionId } from '../session.ts';

export interface InspectedChunk {
  /** What may go out now. With a lesson, only once the lesson's binding is committed. */
  readonly out: Uint8Array | undefined;
  readonly discovered: DiscoveredId | undefined;
  /** The rest of the body is of no interest: pass it on unseen. */
  readonly isDone: boolean;
}

export interface BodyInspector {
  /** Takes the next chunk, cut anywhere. Keeps no reference to it. */
  push(chunk: Uint8Array): InspectedChunk;
  /** The body has ended: what was still held goes out, as it came. */
  end(): InspectedChunk;
}

/** What is held at most, in bytes (invariant 8). What teaches is far shorter. */
export const MAX_HELD_BYTES = 16_384;

/** Holds the beginning of a body until it can be read as a whole, or is too long for that. */
export function createBodyInspector(
  protocol: Protocol,
  { begin, read }: Pick<BodyDiscovery, 'begin' | 'read'>,
): BodyInspector {
  const held: Uint8Array[] = [];
  let heldBytes = 0;
  let isDone = false;

  const push = (chunk: Uint8Array): InspectedChunk => {
    const isUnknown = heldBytes === 0 && chunk.length > 0 && !begin.test(firstCharacterOf(chunk));
    if (isDone || isUnknown) return finish(chunk, undefined);
    // The wire may use the memory of a chunk again.
    held.push(Uint8Array.from(chunk));
    heldBytes += chunk.length;
    return heldBytes > MAX_HELD_BYTES
      ? end()
      : { out: undefined, discovered: undefined, isDone: false };
  };

  const end = (): InspectedChunk => {
    const body = Buffer.concat(held);
    const text = read(body.toString('latin1', 0, MAX_HELD_BYTES));
    const id = text === undefined ? undefined : parseSessionId(text);
    return finish(body, id && { id, protocol });
  };

  const finish = (out: Uint8Array, lesson: DiscoveredId | undefined): InspectedChunk => {
    isDone = true;
    held.length = 0;
    return { out: out.length > 0 ? out : undefined, discovered: lesson, isDone };
  };

  return { push, end: () => (isDone ? finish(Buffer.alloc(0), undefined) : end()) };
}

function firstCharacterOf(chunk: Uint8Array): string {
  return String.fromCharCode(chunk[0] ?? 0);
}

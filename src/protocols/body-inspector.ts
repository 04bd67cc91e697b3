/**
 * Inspects the beginning of a response body on its way to the client, and discovers the id in it. The held
 * bytes are bounded, and what can't reveal an id passes without a delay.
 */
import { JsonEndFinder } from './json-end.ts';
import type { BodyDiscovery, DiscoveredId, Protocol, Revealed } from './protocol.ts';
import { parseSessionId } from '../session.ts';

export interface InspectedChunk {
  /** What may go out now; with discovered ids, only once their bindings are committed. */
  readonly out: Uint8Array | undefined;
  readonly discovered: readonly DiscoveredId[];
  /** The rest of the body needs no inspection. */
  readonly isDone: boolean;
}

export interface BodyInspector {
  /** Takes the next chunk, cut anywhere. Keeps no reference to it. */
  push(chunk: Uint8Array): InspectedChunk;
  /** The body has ended: what was still held goes out, as it came. */
  end(): InspectedChunk;
}

/** The maximum of held bytes (invariant 8). The part that reveals an id is far shorter. */
export const MAX_HELD_BYTES = 16_384;

export const NO_BYTES = new Uint8Array(0);
export const NO_IDS: readonly DiscoveredId[] = [];

export function inspected(
  out: Uint8Array,
  discovered: readonly DiscoveredId[],
  isDone: boolean,
): InspectedChunk {
  return { out: out.length > 0 ? out : undefined, discovered, isDone };
}

/** Leaves out what is no session id. */
function discoverIds(protocol: Protocol, revealed: Revealed): readonly DiscoveredId[] {
  if (revealed === undefined) return NO_IDS;
  const texts = typeof revealed === 'string' ? [revealed] : new Set(revealed);
  return [...texts].flatMap((text) => {
    const id = parseSessionId(text);
    return id === undefined ? [] : { id, protocol };
  });
}

/** What reads ids of one protocol. */
interface IdsReader {
  readonly protocol: Protocol;
  readonly discovery: Pick<BodyDiscovery, 'read'>;
}

/** An id that two protocols find is that of the first. */
export function readIdsOf(readers: readonly IdsReader[], text: string): readonly DiscoveredId[] {
  const found = new Map<string, DiscoveredId>();
  for (const { protocol, discovery } of readers)
    for (const discovered of discoverIds(protocol, discovery.read(text)))
      if (!found.has(discovered.id)) found.set(discovered.id, discovered);
  return found.size === 0 ? NO_IDS : [...found.values()];
}

interface BodyIdsReader extends IdsReader {
  readonly discovery: Pick<BodyDiscovery, 'begin' | 'read'>;
}

/**
 * Holds the beginning of a body until it can be read as a whole, or is too long for that. JSON is whole once its
 * first value is: another app's stream of JSON must not wait for its end.
 */
export class WholeBodyInspector implements BodyInspector {
  #readers: readonly BodyIdsReader[];
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  readonly #jsonEnd = new JsonEndFinder();
  #isDone = false;

  constructor(readers: readonly BodyIdsReader[]) {
    this.#readers = readers;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone || this.#beginsOtherwise(chunk)) return this.#finish(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes > MAX_HELD_BYTES || this.#jsonEnd.push(chunk)) return this.#readWith(chunk);
    // The memory of a chunk is used again after the call.
    this.#held.push(Uint8Array.from(chunk));
    return inspected(NO_BYTES, NO_IDS, false);
  }

  end(): InspectedChunk {
    return this.#isDone ? this.#finish(NO_BYTES) : this.#readWith(NO_BYTES);
  }

  /** A large body is not copied: most come in chunks longer than what may be held. */
  #readWith(last: Uint8Array): InspectedChunk {
    const body = this.#held.length === 0 ? last : Buffer.concat([...this.#held, last]);
    const beginning = Buffer.from(
      body.buffer,
      body.byteOffset,
      Math.min(body.length, MAX_HELD_BYTES),
    );
    return this.#finish(body, readIdsOf(this.#readers, beginning.toString('latin1')));
  }

  /** For each reader. */
  #beginsOtherwise(chunk: Uint8Array): boolean {
    if (this.#heldBytes > 0 || chunk.length === 0) return false;
    const first = String.fromCharCode(chunk[0] ?? 0);
    this.#readers = this.#readers.filter(({ discovery }) => discovery.begin.test(first));
    return this.#readers.length === 0;
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#held = [];
    return inspected(out, discovered, true);
  }
}

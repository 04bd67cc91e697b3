/**
 * Inspects the beginning of a response body on its way to the client, and discovers the id in it. The held
 * bytes are bounded, and what can't reveal an id passes without a delay.
 */
import type { BodyDiscovery, DiscoveredId, Protocol } from './protocol.ts';
import { parseSessionId } from '../session.ts';

export interface InspectedChunk {
  /** What may go out now; with a discovered id, only once its binding is committed. */
  readonly out: Uint8Array | undefined;
  readonly discovered: DiscoveredId | undefined;
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

export function inspected(
  out: Uint8Array,
  discovered: DiscoveredId | undefined,
  isDone: boolean,
): InspectedChunk {
  return { out: out.length > 0 ? out : undefined, discovered, isDone };
}

/** Undefined for a text that is no session id. */
export function discoverId(protocol: Protocol, text: string | undefined): DiscoveredId | undefined {
  const id = text === undefined ? undefined : parseSessionId(text);
  return id && { id, protocol };
}

/** Holds the beginning of a body until it can be read as a whole, or is too long for that. */
export class WholeBodyInspector implements BodyInspector {
  readonly #protocol: Protocol;
  readonly #discovery: Pick<BodyDiscovery, 'begin' | 'read'>;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #isDone = false;

  constructor(protocol: Protocol, discovery: Pick<BodyDiscovery, 'begin' | 'read'>) {
    this.#protocol = protocol;
    this.#discovery = discovery;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone || this.#beginsOtherwise(chunk)) return this.#finish(chunk);
    // The memory of a chunk is used again after the call.
    this.#held.push(Uint8Array.from(chunk));
    this.#heldBytes += chunk.length;
    return this.#heldBytes > MAX_HELD_BYTES ? this.end() : inspected(NO_BYTES, undefined, false);
  }

  end(): InspectedChunk {
    if (this.#isDone) return this.#finish(NO_BYTES);
    const body = Buffer.concat(this.#held);
    const text = this.#discovery.read(body.toString('latin1', 0, MAX_HELD_BYTES));
    return this.#finish(body, discoverId(this.#protocol, text));
  }

  #beginsOtherwise(chunk: Uint8Array): boolean {
    if (this.#heldBytes > 0 || chunk.length === 0) return false;
    return !this.#discovery.begin.test(String.fromCharCode(chunk[0] ?? 0));
  }

  #finish(out: Uint8Array, discovered?: DiscoveredId): InspectedChunk {
    this.#isDone = true;
    this.#held = [];
    return inspected(out, discovered, true);
  }
}

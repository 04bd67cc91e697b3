/**
 * Inspects the beginning of a response body on its way to the client, and discovers the id in it. The held
 * bytes are bounded, and what can't reveal an id passes without a delay.
 */
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
export function discoverIds(protocol: Protocol, revealed: Revealed): readonly DiscoveredId[] {
  if (revealed === undefined) return NO_IDS;
  const texts = typeof revealed === 'string' ? [revealed] : new Set(revealed);
  return [...texts].flatMap((text) => {
    const id = parseSessionId(text);
    return id === undefined ? [] : { id, protocol };
  });
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
    return this.#heldBytes > MAX_HELD_BYTES ? this.end() : inspected(NO_BYTES, NO_IDS, false);
  }

  end(): InspectedChunk {
    if (this.#isDone) return this.#finish(NO_BYTES);
    const body = Buffer.concat(this.#held);
    const revealed = this.#discovery.read(body.toString('latin1', 0, MAX_HELD_BYTES));
    return this.#finish(body, discoverIds(this.#protocol, revealed));
  }

  #beginsOtherwise(chunk: Uint8Array): boolean {
    if (this.#heldBytes > 0 || chunk.length === 0) return false;
    return !this.#discovery.begin.test(String.fromCharCode(chunk[0] ?? 0));
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#held = [];
    return inspected(out, discovered, true);
  }
}

/** Two inspectors in a row: the second reads what the first lets out. */
export class InspectorPair implements BodyInspector {
  readonly #first: BodyInspector;
  readonly #second: BodyInspector;

  constructor(first: BodyInspector, second: BodyInspector) {
    this.#first = first;
    this.#second = second;
  }

  push(chunk: Uint8Array): InspectedChunk {
    const passed = this.#first.push(chunk);
    if (!passed.out) return { ...passed, isDone: false };
    const out = this.#second.push(passed.out);
    return both(passed, out, passed.isDone && out.isDone);
  }

  end(): InspectedChunk {
    const passed = this.#first.end();
    const out = passed.out ? this.#second.push(passed.out) : inspected(NO_BYTES, NO_IDS, false);
    const last = this.#second.end();
    return both(passed, { ...both(out, last, true), out: joined(out.out, last.out) }, true);
  }
}

function both(first: InspectedChunk, second: InspectedChunk, isDone: boolean): InspectedChunk {
  return { out: second.out, discovered: [...first.discovered, ...second.discovered], isDone };
}

function joined(
  one: Uint8Array | undefined,
  other: Uint8Array | undefined,
): Uint8Array | undefined {
  return one && other ? Buffer.concat([one, other]) : (one ?? other);
}

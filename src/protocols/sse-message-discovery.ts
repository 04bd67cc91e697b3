/**
 * Discovers a session id in the messages at the beginning of an event stream. Each message is held from its
 * data on until it is complete, and goes out if it reveals no id. Lines without data are held only until
 * they end.
 */
import {
  inspected,
  MAX_HELD_BYTES,
  NO_BYTES,
  NO_IDS,
  readIdsOf,
  type BodyInspector,
  type IdsReader,
  type InspectedChunk,
} from './body-inspector.ts';
import type { DiscoveredId } from './protocol.ts';
import { parseSseField, SseLineReader } from './sse-lines.ts';

export class SseMessageInspector implements BodyInspector {
  readonly #readers: readonly IdsReader[];
  readonly #lines = new SseLineReader();
  #held = NO_BYTES;
  #inspectedBytes = 0;
  #data: string[] = [];
  #isDone = false;

  constructor(readers: readonly IdsReader[]) {
    this.#readers = readers;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone) return this.#finish(chunk);
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    let outUntil = 0;
    for (let at = this.#held.length; at < bytes.length; at += 1) {
      if (this.#inspectedBytes === MAX_HELD_BYTES) return this.#finish(bytes);
      this.#inspectedBytes += 1;
      const line = this.#lines.read(bytes[at] ?? 0);
      const discovered = line === undefined ? NO_IDS : this.#endLine(line);
      if (discovered.length > 0) return this.#finish(bytes, discovered);
      if (this.#lines.line === '' && this.#data.length === 0) outUntil = at + 1;
    }
    this.#held = Uint8Array.from(bytes.subarray(outUntil));
    return inspected(bytes.subarray(0, outUntil), NO_IDS, false);
  }

  /** A client that is less strict than the standard may accept an event that has not ended. */
  end(): InspectedChunk {
    if (this.#isDone) return this.#finish(NO_BYTES);
    const inLastLine = this.#endLine(this.#lines.end());
    return this.#finish(this.#held, inLastLine.length > 0 ? inLastLine : this.#endEvent());
  }

  #endLine(line: string): readonly DiscoveredId[] {
    if (line === '') return this.#endEvent();
    const { field, value } = parseSseField(line);
    if (field === 'data') this.#data.push(value);
    return NO_IDS;
  }

  #endEvent(): readonly DiscoveredId[] {
    const data = this.#data;
    this.#data = [];
    return data.length === 0 ? NO_IDS : readIdsOf(this.#readers, data.join('\n'));
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#held = NO_BYTES;
    return inspected(out, discovered, true);
  }
}

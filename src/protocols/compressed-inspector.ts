/** Inspects the beginning of a compressed body: it goes out as it came, and only what it reveals is read. */
import { brotliDecompressSync, constants, gunzipSync, inflateSync } from 'node:zlib';
import {
  inspected,
  MAX_HELD_BYTES,
  NO_BYTES,
  NO_IDS,
  type BodyInspector,
  type InspectedChunk,
} from './body-inspector.ts';

/** Of what is read, in bytes: a few compressed bytes may become many. */
const MAX_PLAIN_BYTES = 4 * MAX_HELD_BYTES;
/** Each chunk is read with all before it. */
const MAX_CHUNKS = 16;

type Decompress = (bytes: Uint8Array) => Uint8Array;

const ZLIB = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: MAX_PLAIN_BYTES };
const BROTLI = {
  finishFlush: constants.BROTLI_OPERATION_FLUSH,
  maxOutputLength: MAX_PLAIN_BYTES,
};

const CODINGS: Readonly<Record<string, Decompress>> = {
  gzip: (bytes) => gunzipSync(bytes, ZLIB),
  'x-gzip': (bytes) => gunzipSync(bytes, ZLIB),
  deflate: (bytes) => inflateSync(bytes, ZLIB),
  br: (bytes) => brotliDecompressSync(bytes, BROTLI),
};

/** `plain` reads the text and must not change it. Undefined for a coding that is not known. */
export function createCompressedInspector(
  coding: string,
  plain: BodyInspector,
): BodyInspector | undefined {
  const decompress = Object.hasOwn(CODINGS, coding) ? CODINGS[coding] : undefined;
  return decompress && new CompressedInspector(decompress, plain);
}

class CompressedInspector implements BodyInspector {
  readonly #decompress: Decompress;
  readonly #plain: BodyInspector;
  /** All chunks so far. */
  #bytes = NO_BYTES;
  #chunkCount = 0;
  /** How much of the text was read. */
  #readBytes = 0;
  #isDone = false;

  constructor(decompress: Decompress, plain: BodyInspector) {
    this.#decompress = decompress;
    this.#plain = plain;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone) return inspected(chunk, NO_IDS, true);
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#chunkCount += 1;
    const text = this.#read();
    if (text === undefined) return this.#finish(chunk);
    const { discovered, isDone } = this.#plain.push(text.subarray(this.#readBytes));
    this.#readBytes = text.length;
    if (discovered.length > 0 || isDone) return this.#finish(chunk, discovered);
    const isLong = this.#bytes.length >= MAX_HELD_BYTES || this.#chunkCount === MAX_CHUNKS;
    return isLong ? this.#finish(chunk) : inspected(chunk, NO_IDS, false);
  }

  end(): InspectedChunk {
    return this.#finish(NO_BYTES);
  }

  /** The text so far; undefined if it is malformed or too long. */
  #read(): Uint8Array | undefined {
    try {
      return this.#decompress(this.#bytes);
    } catch {
      // The client gets the bytes as they are, and will find the same.
      return undefined;
    }
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#bytes = NO_BYTES;
    return inspected(out, discovered, true);
  }
}

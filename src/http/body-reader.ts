/**
 * Reads one message's body as its head frames it (RFC 9112 §6.3): says where it ends, and passes its bytes
 * on as they came, or decoded.
 */
import { ChunkScanner, NOT_CHUNKED, TrailerReader, type TrailerOptions } from './chunks.ts';

export type Framing = 'none' | 'length' | 'chunked' | 'until-close';

/** Receives a body's bytes. `bytes` is valid during the call only, unless its owner says otherwise. */
export interface BodySink {
  onBodyBytes(bytes: Buffer, start: number, end: number): void;
  /**
   * The bytes that follow have their framing again, after {@link BodyReader.keepFraming}: first so many bytes of data
   * that belong to a chunk whose size has not been passed on, or none.
   */
  onFramingKept?(dataLeft: number): void;
}

/** What {@link BodyReader.read} returns for bytes that break the framing. */
export const BROKEN_BODY = -1;

/** One for each connection, reset with each message. */
export class BodyReader {
  framing: Framing = 'none';
  /** Passes on the data of chunks without their framing, and no trailers. */
  decodes = false;
  isComplete = true;
  #left = 0;
  #chunks: ChunkScanner | undefined;
  readonly #trailerOptions: TrailerOptions;
  #trailers: TrailerReader | undefined;

  constructor(trailerOptions: TrailerOptions) {
    this.#trailerOptions = trailerOptions;
  }

  /** `length` counts for the framing of that name alone. */
  begin(framing: Framing, length: number): void {
    this.framing = framing;
    this.decodes = false;
    this.#left = length;
    this.isComplete = framing === 'none' || (framing === 'length' && length === 0);
    this.#trailers = undefined;
    if (framing === 'chunked') (this.#chunks ??= new ChunkScanner()).reset();
  }

  /** Passes chunks with their framing again, from the next bytes on. */
  keepFraming(): void {
    if (this.decodes && this.#chunks) this.#chunks.stopsEarly = true;
  }

  /** Bytes of a body of known length that have not come yet. */
  get left(): number {
    return this.#left;
  }

  /** Passes on what belongs to the body. Returns the position behind it, or BROKEN_BODY. */
  read(bytes: Buffer, from: number, end: number, sink: BodySink): number {
    switch (this.framing) {
      case 'none':
        return from;
      case 'length':
        return this.#readLength(bytes, from, end, sink);
      case 'chunked':
        return this.#readChunks(bytes, from, end, sink);
      case 'until-close':
        if (end > from) sink.onBodyBytes(bytes, from, end);
        return end;
    }
  }

  #readLength(bytes: Buffer, from: number, end: number, sink: BodySink): number {
    const bodyEnd = Math.min(end, from + this.#left);
    this.#left -= bodyEnd - from;
    this.isComplete = this.#left === 0;
    if (bodyEnd > from) sink.onBodyBytes(bytes, from, bodyEnd);
    return bodyEnd;
  }

  #readChunks(bytes: Buffer, from: number, end: number, sink: BodySink): number {
    const chunks = this.#chunks;
    if (chunks === undefined || this.isComplete) return from;
    if (this.#trailers !== undefined) return this.#readTrailers(bytes, from, end, sink);
    const bodyEnd = this.decodes
      ? chunks.scan(bytes, from, end, (start, dataEnd) => {
          if (dataEnd > start) sink.onBodyBytes(bytes, start, dataEnd);
        })
      : chunks.scan(bytes, from, end);
    if (bodyEnd === NOT_CHUNKED) return BROKEN_BODY;
    if (chunks.stopsEarly && (chunks.isBetweenChunks || (chunks.dataLeft > 0 && bodyEnd < end))) {
      chunks.stopsEarly = false;
      this.decodes = false;
      sink.onFramingKept?.(chunks.dataLeft);
      return this.#readChunks(bytes, bodyEnd, end, sink);
    }
    this.isComplete = chunks.isDone;
    if (!this.decodes && bodyEnd > from) sink.onBodyBytes(bytes, from, bodyEnd);
    return chunks.isInTrailers ? this.#readTrailers(bytes, bodyEnd, end, sink) : bodyEnd;
  }

  #readTrailers(bytes: Buffer, from: number, end: number, sink: BodySink): number {
    this.#trailers ??= new TrailerReader(this.#trailerOptions);
    const sectionEnd = this.#trailers.read(bytes, from, end);
    const { text } = this.#trailers;
    if (sectionEnd === BROKEN_BODY || text === undefined) return sectionEnd;
    this.isComplete = true;
    const passed = Buffer.from(text, 'latin1');
    if (!this.decodes) sink.onBodyBytes(passed, 0, passed.length);
    return sectionEnd;
  }
}

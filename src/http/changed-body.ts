/**
 * The body of a response that does not just pass: it is held back, inspected, or framed anew.
 *
 *   FLOWING ─the owner or the inspector has something to commit─> HELD ─committed─> FLOWING
 *
 * A body that goes out as it came needs none of this.
 */
import { ChunkScanner } from './chunks.ts';
import type { IncomingRequest } from './incoming-request.ts';
import type { BodyFilter, FilteredBytes } from './pipe-owner.ts';
import type { BodyForm } from './response-head.ts';
import { MAX_TEXT_BYTES, type BufferOwnership } from './socket.ts';

export interface ChangedBodyOwner {
  /** The response has ended: what is held is not needed. */
  readonly isOver: boolean;
  /** The body is held from now on. */
  onHeld(): void;
  /** It flows again. */
  onReleased(): void;
  /** Nothing is inspected any more: chunks may pass as they come. */
  onInspected(): void;
  /** Its end was held too. */
  onResponseEnd(): void;
  /** Goes on once the promise has resolved, unless the response has ended. */
  whenResolved<Value>(until: Promise<Value>, goOn: (value: Value) => void): void;
}

const LAST_CHUNK = '0\r\n\r\n';
const NOTHING = Buffer.alloc(0);

export class ChangedBody {
  readonly #incoming: IncomingRequest;
  readonly #owner: ChangedBodyOwner;
  #form: BodyForm = 'as-it-came';
  #inspector: BodyFilter | undefined;
  /** Body bytes that came while the head, or what the inspector found, was held. */
  #held: Buffer[] | undefined;
  #hasEndedWhileHeld = false;
  /** They are chunks as they came: it was not known yet in which form they go out. */
  #isHeldFramed = false;

  constructor(incoming: IncomingRequest, owner: ChangedBodyOwner) {
    this.#incoming = incoming;
    this.#owner = owner;
  }

  get isHeld(): boolean {
    return this.#held !== undefined;
  }

  /** From now on chunks pass as they come; the first `dataLeft` bytes are of one without its size. */
  keepFraming(dataLeft: number): void {
    this.#form = 'as-it-came';
    if (dataLeft > 0) this.#incoming.writeText(sizeLine(dataLeft));
  }

  /** The head goes out. */
  begin(form: BodyForm, inspector: BodyFilter | undefined): void {
    this.#form = form;
    this.#inspector = inspector;
  }

  /** Holds the head back, and all that follows it. */
  holdHead<Value>(until: Promise<Value>, isChunked: boolean, goOn: (value: Value) => void): void {
    this.#isHeldFramed = isChunked;
    this.#hold(until, goOn);
  }

  #hold<Value>(until: Promise<Value>, goOn: (value: Value) => void): void {
    this.#held = [];
    this.#owner.onHeld();
    this.#owner.whenResolved(until, (value) => {
      const held = this.#held ?? [];
      this.#held = undefined;
      goOn(value);
      this.#deliver(held);
    });
  }

  /** Delivers what came meanwhile. The inspector may hold again. */
  #deliver(held: readonly Buffer[]): void {
    const isToDecode = this.#isHeldFramed && this.#form !== 'as-it-came';
    this.#isHeldFramed = false;
    const parts = isToDecode ? dataOf(held) : held;
    const isInspected = this.#inspector !== undefined;
    for (const bytes of isInspected || parts.length < 2 ? parts : [Buffer.concat(parts)]) {
      if (!this.#owner.isOver) this.write(bytes, 0, bytes.length, 'kept');
    }
    if (this.isHeld || this.#owner.isOver) return;
    const hasEnded = this.#hasEndedWhileHeld;
    this.#hasEndedWhileHeld = false;
    if (hasEnded) {
      this.#owner.onResponseEnd();
      return;
    }
    if (this.#inspector === undefined && this.#form === 'chunks') this.#owner.onInspected();
    this.#owner.onReleased();
  }

  /** Whether more may come now. */
  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    if (this.#held !== undefined) {
      this.#held.push(Buffer.from(bytes.subarray(start, end)));
      return false;
    }
    if (this.#inspector === undefined) return this.#writeFramed(bytes, start, end, ownership);
    return this.#passInspected(this.#inspector.push(bytes.subarray(start, end)));
  }

  #writeFramed(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    if (this.#form !== 'chunks') return this.#incoming.write(bytes, start, end, ownership);
    if (end === start) return true;
    const size = sizeLine(end - start);
    // Each write is a system call, and a packet.
    if (end - start <= MAX_TEXT_BYTES)
      return this.#incoming.writeText(`${size}${bytes.toString('latin1', start, end)}\r\n`);
    this.#incoming.writeText(size);
    // The line end behind it follows at once, so no 'drain' would report that a lent buffer is free.
    const known = ownership === 'lent' ? 'shared' : ownership;
    const mayGoOn = this.#incoming.write(bytes, start, end, known);
    this.#incoming.writeText('\r\n');
    return mayGoOn;
  }

  #passInspected({ out, until, isDone }: FilteredBytes): boolean {
    if (isDone) this.#inspector = undefined;
    const bytes = out === undefined ? NOTHING : asBuffer(out);
    if (until === undefined) {
      if (isDone && this.#form === 'chunks') this.#owner.onInspected();
      return bytes.length === 0 || this.#writeFramed(bytes, 0, bytes.length, 'shared');
    }
    // It outlives the call, and the memory of the read does not.
    const kept = Buffer.from(bytes);
    this.#hold(until, () => void this.#writeFramed(kept, 0, kept.length, 'kept'));
    return false;
  }

  /** The body has ended. False: the end is held too, and `onResponseEnd` follows. */
  end(): boolean {
    const inspector = this.#inspector;
    if (!this.isHeld && inspector) {
      this.#inspector = undefined;
      this.#passInspected({ ...inspector.end(), isDone: true });
    }
    this.#hasEndedWhileHeld = this.isHeld;
    if (this.isHeld) return false;
    if (this.#form === 'chunks') this.#incoming.writeText(LAST_CHUNK);
    return true;
  }
}

function sizeLine(bytes: number): string {
  return `${bytes.toString(16)}\r\n`;
}

/** The data of chunks, from the first one on. */
function dataOf(chunks: readonly Buffer[]): Buffer[] {
  const scanner = new ChunkScanner();
  const data: Buffer[] = [];
  for (const bytes of chunks) {
    if (scanner.isDone || scanner.isInTrailers) break;
    scanner.scan(bytes, 0, bytes.length, (start, end) => data.push(bytes.subarray(start, end)));
  }
  return data;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

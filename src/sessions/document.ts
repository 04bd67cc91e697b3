/** Documents of exported sessions, written and read as streams: the memory does not grow with them. */
import type { Binding, MachineId } from '../session.ts';
import { formatEnd, formatSession, HEAD, parseSessionLine } from './format.ts';

/** Many lines in each chunk. */
export function formatDocument(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  return inChunks(formatLines(bindings));
}

async function* formatLines(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  let count = 0;
  yield HEAD;
  for await (const binding of bindings) {
    count += 1;
    yield formatSession(binding);
  }
  yield formatEnd(count);
}

/** The smallest chunk, but for the last one. */
const CHUNK_CHARACTERS = 32_768;

/** Adds the line breaks, and joins lines to chunks. */
export async function* inChunks(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let text = '';
  for await (const line of lines) {
    text += `${line}\n`;
    if (text.length < CHUNK_CHARACTERS) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

/** What a reader finds, in order; `line` counts from 1. */
export type DocumentItem =
  | { readonly kind: 'session'; readonly line: number; readonly binding: Binding }
  | { readonly kind: 'bad'; readonly line: number; readonly problem: string }
  /** The document as a whole is not valid: the reader ignores the rest. */
  | { readonly kind: 'broken'; readonly line: number; readonly problem: string };

/** Several times the longest line of an export. */
const MAX_LINE_BYTES = 2_048;

const TOO_LONG = { kind: 'bad', problem: `is longer than ${MAX_LINE_BYTES} bytes` } as const;
const EMPTY = `nothing arrived; the first line must be ${HEAD}`;
const TRUNCATED = 'the export is truncated: its last line, which counts the sessions, is missing';

/**
 * Reads one or more documents.
 *
 *   before-head --head--> in-sessions --last line--> between --head--> in-sessions
 *        |                     |                        |
 *        +---- another line ---+---- another head ------+---- another line ----> broken
 */
export class DocumentReader {
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  #state: 'before-head' | 'in-sessions' | 'between' | 'broken' = 'before-head';
  /** Of the current document, to be compared with its last line. */
  #sessionCount = 0;
  #lastLine = 0;

  push(chunk: Buffer): DocumentItem[] {
    return this.#lines.push(chunk).flatMap((line) => this.#read(line));
  }

  end(): DocumentItem[] {
    const items = this.#lines.end().flatMap((line) => this.#read(line));
    if (this.#state === 'before-head') return [...items, this.#break(this.#lastLine, EMPTY)];
    if (this.#state === 'in-sessions') return [...items, this.#break(this.#lastLine, TRUNCATED)];
    return items;
  }

  #read(line: NumberedLine): DocumentItem[] {
    this.#lastLine = line.number;
    if (this.#state === 'broken' || line.text?.trim() === '') return [];
    const item = this.#state === 'in-sessions' ? this.#readInside(line) : this.#readOutside(line);
    return item === undefined ? [] : [item];
  }

  #readOutside({ number, text = '' }: NumberedLine): DocumentItem | undefined {
    const parsed = parseSessionLine(text);
    if (parsed.kind === 'foreign') return this.#break(number, parsed.problem);
    if (parsed.kind !== 'head') {
      return this.#break(number, `must be the first line of an export: ${HEAD}`);
    }
    this.#state = 'in-sessions';
    this.#sessionCount = 0;
    return undefined;
  }

  #readInside({ number: line, text }: NumberedLine): DocumentItem | undefined {
    const parsed = text === undefined ? TOO_LONG : parseSessionLine(text);
    switch (parsed.kind) {
      case 'session':
        this.#sessionCount += 1;
        return { kind: 'session', line, binding: parsed.binding };
      case 'bad':
        this.#sessionCount += 1;
        return { kind: 'bad', line, problem: parsed.problem };
      case 'end':
        this.#state = 'between';
        if (parsed.sessionCount === this.#sessionCount) return undefined;
        return this.#break(
          line,
          `counts ${parsed.sessionCount} sessions, but ${this.#sessionCount} arrived: the export is incomplete`,
        );
      case 'head':
        return this.#break(line, 'comes before the last line of the previous export');
      case 'foreign':
        return this.#break(line, parsed.problem);
    }
  }

  #break(line: number, problem: string): DocumentItem {
    this.#state = 'broken';
    return { kind: 'broken', line, problem };
  }
}

interface NumberedLine {
  /** From 1. */
  readonly number: number;
  /** Undefined if the line is too long: it is dropped while it arrives. */
  readonly text: string | undefined;
}

/** Splits bytes into lines. Reads them as latin-1: ASCII is expected, and no character can be split. */
class LineSplitter {
  readonly #maxLineBytes: number;
  #number = 0;
  #text = '';
  #isTooLong = false;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  /** The lines that the chunk completes. */
  push(chunk: Buffer): NumberedLine[] {
    const [first = '', ...others] = chunk.toString('latin1').split('\n');
    this.#add(first);
    return others.map((piece) => {
      const line = this.#complete();
      this.#add(piece);
      return line;
    });
  }

  /** The last line, if it has no line break. */
  end(): NumberedLine[] {
    return this.#text === '' && !this.#isTooLong ? [] : [this.#complete()];
  }

  #add(piece: string): void {
    this.#isTooLong ||= this.#text.length + piece.length > this.#maxLineBytes;
    this.#text = this.#isTooLong ? '' : this.#text + piece;
  }

  #complete(): NumberedLine {
    this.#number += 1;
    const line = { number: this.#number, text: this.#isTooLong ? undefined : this.#text };
    this.#text = '';
    this.#isTooLong = false;
    return line;
  }
}

/* Selects sessions of a store, by owner and number. */

export interface Selection {
  readonly owner?: MachineId | undefined;
  /** The most sessions to select. */
  readonly limit?: number | undefined;
}

/** `signal` also ends a walk that finds no matching session. */
export async function* selectSessions(
  bindings: AsyncIterable<Binding>,
  { owner, limit = Infinity }: Selection,
  signal?: AbortSignal,
): AsyncGenerator<Binding> {
  let remaining = limit;
  if (remaining <= 0) return;
  for await (const binding of bindings) {
    signal?.throwIfAborted();
    if (owner !== undefined && binding.machine !== owner) continue;
    yield binding;
    remaining -= 1;
    if (remaining <= 0) return;
  }
}

/** Splits bytes into lines. Reads them as latin-1: ASCII is expected, and no character can be split. */
export interface NumberedLine {
  /** From 1. */
  readonly number: number;
  /** Undefined if the line is too long: it is dropped while it arrives. */
  readonly text: string | undefined;
}

export class LineSplitter {
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

/** Bytes as numbered lines, however they are cut into chunks. */

export interface NumberedLine {
  /** From 1. */
  readonly number: number;
  /** Undefined if it is too long; it was thrown away as it came. */
  readonly text: string | undefined;
}

export interface LineSplitter {
  /** The lines that the chunk completes. */
  push(chunk: Buffer): NumberedLine[];
  /** The last line, if it has no line break. */
  end(): NumberedLine[];
}

/** Bytes are read as latin-1: what is expected is ASCII, and no character can be cut in two. */
export function createLineSplitter(maxLineBytes: number): LineSplitter {
  let number = 0;
  let text = '';
  let isTooLong = false;

  const add = (piece: string): void => {
    isTooLong ||= text.length + piece.length > maxLineBytes;
    text = isTooLong ? '' : text + piece;
  };
  const complete = (): NumberedLine => {
    const line = { number: ++number, text: isTooLong ? undefined : text };
    text = '';
    isTooLong = false;
    return line;
  };

  return {
    push: (chunk) => {
      const [first = '', ...others] = chunk.toString('latin1').split('\n');
      add(first);
      return others.map((piece) => {
        const line = complete();
        add(piece);
        return line;
      });
    },
    end: () => (text === '' && !isTooLong ? [] : [complete()]),
  };
}

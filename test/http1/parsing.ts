/** What a parser makes of bytes that come in pieces. */
import { MalformedAnswer } from '../../src/http1/malformed.ts';
import { ResponseParser, type ExpectedAnswer } from '../../src/http1/response-parser.ts';

export interface Parsed {
  readonly informations: readonly [number, readonly string[]][];
  readonly statusCode: number | undefined;
  readonly rawHeaders: readonly string[];
  readonly body: string;
  readonly rawTrailers: readonly string[] | undefined;
  readonly ending: 'whole' | 'cut short' | 'upgrade' | 'malformed';
  readonly isPersistent: boolean;
  /** What came after the end, or after the upgrade. */
  readonly rest: string;
}

export interface ParseOptions extends Partial<ExpectedAnswer> {
  readonly maxHeadBytes?: number;
}

/** Feeds the pieces, latin-1, and then the end of the connection. */
export function parse(pieces: readonly string[], options: ParseOptions = {}): Parsed {
  const run = new ParserRun(options);
  for (const piece of pieces) run.feed(piece);
  return run.finish();
}

/** Every way to cut a text in two, and the one into single bytes. */
export function* cuts(text: string): Generator<string[]> {
  for (let at = 0; at <= text.length; at += 1) yield [text.slice(0, at), text.slice(at)];
  yield Array.from(text);
}

class ParserRun {
  readonly #parser: ResponseParser;
  readonly #parsed: { -readonly [K in keyof Parsed]: Parsed[K] };
  readonly #informations: [number, readonly string[]][] = [];
  #isOver = false;

  constructor({ method = 'GET', upgrade, maxHeadBytes = 65_536 }: ParseOptions) {
    this.#parser = new ResponseParser(maxHeadBytes);
    this.#parser.begin({ method, upgrade });
    this.#parsed = {
      informations: this.#informations,
      statusCode: undefined,
      rawHeaders: [],
      body: '',
      rawTrailers: undefined,
      ending: 'cut short',
      isPersistent: false,
      rest: '',
    };
  }

  feed(piece: string): void {
    if (this.#isOver) {
      this.#parsed.rest += piece;
      return;
    }
    this.#parser.feed(Buffer.from(piece, 'latin1'), piece.length);
    try {
      while (this.#takeEvent());
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error;
      this.#end('malformed');
    }
    this.#parser.release();
  }

  finish(): Parsed {
    if (!this.#isOver && this.#parser.finish()) this.#end('whole');
    return this.#parsed;
  }

  #takeEvent(): boolean {
    const parser = this.#parser;
    const parsed = this.#parsed;
    switch (parser.next()) {
      case 'more':
        return false;
      case 'information':
        this.#informations.push([parser.statusCode, parser.rawHeaders]);
        return true;
      case 'head':
        parsed.statusCode = parser.statusCode;
        parsed.rawHeaders = parser.rawHeaders;
        return true;
      case 'data':
        parsed.body += parser.bytes.toString('latin1', parser.dataStart, parser.dataEnd);
        return true;
      case 'upgrade':
        parsed.statusCode = parser.statusCode;
        parsed.rawHeaders = parser.rawHeaders;
        this.#end('upgrade');
        return false;
      case 'end':
        this.#end('whole');
        return false;
    }
  }

  #end(ending: Parsed['ending']): void {
    this.#isOver = true;
    this.#parsed.ending = ending;
    if (ending === 'malformed') return;
    this.#parsed.isPersistent = this.#parser.isPersistent;
    this.#parsed.rawTrailers = this.#parser.rawTrailers;
    this.#parsed.rest = this.#parser.takeRest().toString('latin1');
  }
}

/** Parses a response that arrives in pieces. */
import { ResponseParser } from '../../src/http/response-parser.ts';
import { BodyReader, BROKEN_BODY } from '../../src/http/body-reader.ts';
import { type ParsedResponseHead, framingOf } from '../../src/http/response-head.ts';

export interface Parsed {
  readonly interims: readonly (readonly [number, readonly string[]])[];
  readonly statusCode: number | undefined;
  readonly rawHeaders: readonly string[];
  /** The decoded body. */
  readonly body: string;
  /** The body as it is passed on, including trailers. */
  readonly framed: string;
  readonly ending: 'complete' | 'cut short' | 'upgrade' | 'malformed';
  readonly isPersistent: boolean;
  /** Bytes after the end, or after the upgrade. */
  readonly rest: string;
}

export interface ParseOptions {
  readonly method?: string;
  readonly headBytes?: number;
}

/** Feeds the latin-1 pieces, and then the end of the connection. */
export function parse(pieces: readonly string[], options: ParseOptions = {}): Parsed {
  const run = new ParserRun(options);
  for (const piece of pieces) run.feed(Buffer.from(piece, 'latin1'));
  return run.finish();
}

/** Every split of a text in two, and the split into single bytes. */
export function* cuts(text: string): Generator<string[]> {
  for (let at = 0; at <= text.length; at += 1) yield [text.slice(0, at), text.slice(at)];
  yield Array.from(text);
}

class ParserRun {
  readonly #method: string;
  readonly #parser: ResponseParser;
  /** One reader decodes its bytes, the other keeps their framing. */
  readonly #bodies: { readonly reader: BodyReader; readonly key: 'body' | 'framed' }[];
  readonly #parsed: { -readonly [K in keyof Parsed]: Parsed[K] };
  readonly #interims: [number, readonly string[]][] = [];
  #unread = Buffer.alloc(0);
  #isInBody = false;
  #isOver = false;

  constructor({ method = 'GET', headBytes = 65_536 }: ParseOptions) {
    this.#method = method;
    this.#parser = new ResponseParser({ headBytes, fields: 500 });
    const trailers = { maxBytes: headBytes, maxFields: 500, forbidden: new Set<string>() };
    this.#bodies = [
      { reader: new BodyReader(trailers), key: 'body' },
      { reader: new BodyReader(trailers), key: 'framed' },
    ];
    this.#parsed = {
      interims: this.#interims,
      statusCode: undefined,
      rawHeaders: [],
      body: '',
      framed: '',
      ending: 'cut short',
      isPersistent: false,
      rest: '',
    };
  }

  feed(piece: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, piece]);
    while (!this.#isOver && !this.#isInBody && this.#readHead());
    if (this.#isInBody && !this.#isOver) this.#readBody();
    if (this.#isOver) this.#parsed.rest = this.#unread.toString('latin1');
  }

  finish(): Parsed {
    const { framing } = this.#bodies[0]?.reader ?? {};
    if (!this.#isOver && this.#isInBody && framing === 'until-close') this.#end('complete');
    return this.#parsed;
  }

  /** Returns whether another head may follow. */
  #readHead(): boolean {
    const result = this.#parser.parse(this.#unread, 0, this.#unread.length);
    if (result === undefined) return false;
    if ('reason' in result) {
      this.#end('malformed');
      return false;
    }
    this.#unread = this.#unread.subarray(result.end);
    const { head } = result;
    if (head.statusCode === 101) {
      this.#noteHead(head);
      this.#end('upgrade');
      return false;
    }
    if (head.statusCode < 200) {
      this.#interims.push([head.statusCode, head.rawHeaders]);
      return true;
    }
    this.#beginBody(head);
    return false;
  }

  #beginBody(head: ParsedResponseHead): void {
    const framing = framingOf(head, this.#method);
    this.#noteHead(head);
    this.#parsed.isPersistent = head.isPersistent && framing !== 'until-close';
    this.#isInBody = true;
    for (const { reader, key } of this.#bodies) {
      reader.begin(framing, head.contentLength ?? 0);
      reader.decodes = key === 'body';
    }
  }

  #noteHead({ statusCode, rawHeaders }: ParsedResponseHead): void {
    this.#parsed.statusCode = statusCode;
    this.#parsed.rawHeaders = rawHeaders;
  }

  #readBody(): void {
    const bytes = this.#unread;
    const ends = this.#bodies.map(({ reader, key }) =>
      reader.read(bytes, 0, bytes.length, {
        onBodyBytes: (part, start, end) => {
          this.#parsed[key] += part.toString('latin1', start, end);
        },
      }),
    );
    const [end = 0] = ends;
    if (end === BROKEN_BODY) this.#end('malformed');
    else {
      this.#unread = bytes.subarray(end);
      if (this.#bodies[0]?.reader.isComplete) this.#end('complete');
    }
  }

  #end(ending: Parsed['ending']): void {
    this.#isOver = true;
    this.#parsed.ending = ending;
  }
}

/**
 * The trailer section of a chunked body: read whole, and passed on without what frames, routes,
 * authenticates or reveals a session (RFC 9110 §6.5.1). llhttp acts on some of those fields even here.
 */
import { LF } from './head-text.ts';
import { FieldScan, INCOMPLETE, FIELD } from './fields.ts';

const FORBIDDEN: ReadonlySet<string> = new Set([
  ...['authorization', 'proxy-authorization', 'www-authenticate', 'proxy-authenticate'],
  ...['cookie', 'set-cookie', 'content-type', 'content-encoding', 'content-range', 'location'],
  ...['cache-control', 'age', 'date', 'expires', 'vary', 'retry-after', 'max-forwards', 'range'],
  ...['forwarded', 'origin', 'content-disposition'],
]);
const FORBIDDEN_PREFIX = /^(?:fly-|x-forwarded-|x-fly-affinity-|if-|access-control-)/;

export interface TrailerOptions {
  readonly maxBytes: number;
  readonly maxFields: number;
  /** More names, in lower case, that are not passed on: those of sessions. */
  readonly forbidden: ReadonlySet<string>;
}

/** The end of a chunked body without trailers. */
const EMPTY = '\r\n';

export class TrailerReader {
  readonly #options: TrailerOptions;
  #held: Buffer = Buffer.alloc(0);
  /** What is passed on once the section is complete: field lines and the empty line. */
  text: string | undefined;

  constructor(options: TrailerOptions) {
    this.#options = options;
  }

  /** The position behind the section, `end` while it goes on, or -1 if it is malformed or too long. */
  read(bytes: Buffer, from: number, end: number): number {
    const before = this.#held.length;
    const section = Buffer.concat([this.#held, bytes.subarray(from, end)]);
    this.#held = section;
    const { maxBytes, maxFields } = this.#options;
    const scan = new FieldScan();
    // A section is scanned once per line, and not once per packet; and up to the end of that line, so that
    // the split into packets makes no difference.
    const linesEnd = section.lastIndexOf(LF) + 1;
    const scanned =
      linesEnd > before
        ? scan.scan(section, 0, linesEnd, { maxFields, allowsBlankBeforeColon: false })
        : INCOMPLETE;
    if (scanned === INCOMPLETE) return section.length > maxBytes ? -1 : end;
    if (scanned < 0 || scanned > maxBytes) return -1;
    this.text = this.#passed(section, scan);
    return from + scanned - before;
  }

  #passed(section: Buffer, scan: FieldScan): string {
    let text = '';
    for (let index = 0; index < scan.count; index += 1) {
      const name = section.toString('latin1', scan.nameStart(index), scan.nameEnd(index));
      const lower = name.toLowerCase();
      const isForbidden =
        scan.codes[index] !== FIELD.other ||
        FORBIDDEN.has(lower) ||
        FORBIDDEN_PREFIX.test(lower) ||
        this.#options.forbidden.has(lower);
      if (isForbidden) continue;
      text += `${name}: ${section.toString('latin1', scan.valueStart(index), scan.valueEnd(index))}\r\n`;
    }
    return text + EMPTY;
  }
}

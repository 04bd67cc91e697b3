/**
 * Reads the beginning of an event stream byte by byte, up to the line that shows whether it opens
 * with MCP's `endpoint` event (revision 2024-11-05, "HTTP with SSE").
 *
 *     reading --blank line after event 'endpoint' and its URL--> complete
 *        '----any line that such an event can't have----------> ruled-out
 *
 * Lines and fields are those of the HTML standard, "Parsing an event stream": LF, CR and CRLF end a
 * line, a byte order mark may come first, comments and unknown fields do not count.
 */

/** `skip`: says nothing, may go out; `hold`: may be the URL, or comes after it. */
export type Verdict = 'skip' | 'hold' | 'ruled-out' | 'complete';

export interface EndpointEventReader {
  /** What this byte means. Not to be called again after `ruled-out` and `complete`. */
  read(byte: number): Verdict;
  /** The event's data: one character a byte. Empty as long as its line has not ended. */
  url(): string;
}

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const DELETE = 0x7f;
const BYTE_ORDER_MARK = '\xef\xbb\xbf';
const DATA_FIELD = 'data:';
/** No URL begins like this, but JSON does: most ordinary streams are told by it at once. */
const JSON_DATA = /^data: ?[{["]/;

/** `mayBeEndpoint` says of a whole URL whether it could be the endpoint; a line longer than `maxBytes` rules it out. */
export function createEndpointEventReader(options: {
  readonly mayBeEndpoint: (url: string) => boolean;
  readonly maxBytes: number;
}): EndpointEventReader {
  let line = '';
  let mayBeginWithMark = true;
  let isAfterCr = false;
  /** The line is known to be a data field. */
  let isData = false;
  /** The event is known to be called `endpoint`. */
  let isNamed = false;
  let url = '';

  const read = (byte: number): Verdict => {
    const isSecondHalfOfCrlf = isAfterCr && byte === LF;
    isAfterCr = byte === CR;
    if (isSecondHalfOfCrlf) return url ? 'hold' : 'skip';
    if (byte !== LF && byte !== CR) return readWithinLine(byte);
    const verdict = endLine(line);
    line = '';
    isData = false;
    mayBeginWithMark = false;
    return verdict;
  };

  const readWithinLine = (byte: number): Verdict => {
    // A comment may be as long as it likes: proxies pad streams with them.
    if (line !== ':') line += String.fromCharCode(byte);
    if (mayBeginWithMark && line === BYTE_ORDER_MARK) {
      line = '';
      mayBeginWithMark = false;
    }
    if (line.length > options.maxBytes) return 'ruled-out';
    if (url) return 'hold';
    if (isData) return isOfUrl(byte, line) ? 'hold' : 'ruled-out';
    isData = line === DATA_FIELD;
    return 'skip';
  };

  const endLine = (ended: string): Verdict => {
    if (ended === '') return endEvent();
    const { field, value } = parseField(ended);
    if (field === 'data') return takeData(value);
    if (field === 'event') {
      if (value !== 'endpoint') return 'ruled-out';
      isNamed = true;
    }
    return url ? 'hold' : 'skip';
  };

  const takeData = (value: string): Verdict => {
    // Several data lines are joined by line feeds, which is no URL.
    if (url || !options.mayBeEndpoint(value)) return 'ruled-out';
    url = value;
    return 'hold';
  };

  const endEvent = (): Verdict => {
    if (url) return isNamed ? 'complete' : 'ruled-out';
    // An event without data is never dispatched, and its name is forgotten.
    isNamed = false;
    return 'skip';
  };

  return { read, url: () => url };
}

function isOfUrl(byte: number, line: string): boolean {
  const length = line.length - DATA_FIELD.length;
  if (byte === SPACE) return length === 1;
  if (byte < SPACE || byte === DELETE) return false;
  return length > 2 || !JSON_DATA.test(line);
}

/** One space after the colon is not part of the value. */
function parseField(line: string): { field: string; value: string } {
  const colon = line.indexOf(':');
  if (colon === -1) return { field: line, value: '' };
  const valueStart = line[colon + 1] === ' ' ? colon + 2 : colon + 1;
  return { field: line.slice(0, colon), value: line.slice(valueStart) };
}

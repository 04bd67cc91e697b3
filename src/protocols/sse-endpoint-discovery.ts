/**
 * Discovers the session id in the `endpoint` event of an event stream (MCP revision 2024-11-05, "HTTP with SSE"),
 * and writes the owner hint into its URL. Other events may come before it. Only what may be that event's URL is
 * held; all else passes without a delay.
 */
import {
  inspected,
  MAX_HELD_BYTES,
  NO_BYTES,
  NO_IDS,
  type BodyInspector,
  type InspectedChunk,
} from './body-inspector.ts';
import { replaceAt, textAt, type RequestHead, type Span } from './heads.ts';
import { addOwnParameter, isOfOwnOrigin } from './own-parameter.ts';
import { splitOwnerHint, withOwnerHint } from './owner-hint.ts';
import type { Protocol } from './protocol.ts';
import { decodeQueryText, findQueryValues } from './query.ts';
import { parseSessionId, type MachineId, type SessionId } from '../session.ts';
import { parseSseField, SseLineReader } from './sse-lines.ts';

const SPACE = 0x20;
const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const DELETE = 0x7f;
const COMMENT = ':';
const DATA_FIELD = 'data:';
const ENDPOINT = 'endpoint';
/** What begins JSON and no URL. */
const JSON_START: ReadonlySet<number> = new Set(Buffer.from('"[{'));
/** A word alone is no URL that anyone posts to: events of this name exist outside of MCP too. */
const URL_LIKE = /[/?]/;

interface SseEndpointOptions {
  readonly protocol: Protocol;
  /** Names of the query parameter that holds the id. */
  readonly names: readonly string[];
  /** The Machine whose hint the id gets in the URL that the client sees, if any. */
  readonly hint: MachineId | undefined;
  /** Mints the value of the sidecar's own parameter; undefined where the URL can't be changed. */
  readonly createId: (() => string) | undefined;
  /** There is an endpoint event. */
  readonly onEndpoint?: () => void;
  /** The request that the stream responds to. */
  readonly request: RequestHead;
}

export class SseEndpointInspector implements BodyInspector {
  readonly #options: SseEndpointOptions;
  readonly #event = new EndpointEvent();
  #held = NO_BYTES;
  /** Comments do not count: proxies pad streams with them. */
  #inspectedBytes = 0;
  #isDone = false;

  constructor(options: SseEndpointOptions) {
    this.#options = options;
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone) return this.#finish(chunk);
    const held = this.#held;
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let heldFrom = held.length === 0 ? undefined : 0;
    for (let at = held.length; at < bytes.length; at += 1) {
      if (this.#event.isSkipped) {
        const end = endOfLine(bytes, at);
        this.#inspectedBytes += end - at;
        at = end;
        if (at === bytes.length) break;
      }
      const verdict = this.#event.read(bytes[at] ?? 0);
      if (verdict === 'complete') return this.#discover(bytes, heldFrom ?? at);
      heldFrom = verdict === 'hold' ? (heldFrom ?? at) : undefined;
      if (heldFrom !== undefined || !this.#event.isInComment) this.#inspectedBytes += 1;
      if (this.#inspectedBytes > MAX_HELD_BYTES) return this.#finish(bytes);
    }
    const end = heldFrom ?? bytes.length;
    this.#held = new Uint8Array(bytes.subarray(end));
    return inspected(bytes.subarray(0, end), NO_IDS, false);
  }

  end(): InspectedChunk {
    return this.#finish(this.#held);
  }

  /** The value of the data field begins at `heldFrom`. */
  #discover(bytes: Uint8Array, heldFrom: number): InspectedChunk {
    const { url, blanks } = this.#event;
    const found = this.#read(url);
    if (!found) return this.#finish(bytes);
    const { id, shown } = found;
    const discovered = [{ id, protocol: this.#options.protocol }];
    if (shown === url) return this.#finish(bytes, discovered);
    const start = heldFrom + blanks;
    const [before, after] = [bytes.subarray(0, start), bytes.subarray(start + url.length)];
    return this.#finish(Buffer.concat([before, Buffer.from(shown, 'latin1'), after]), discovered);
  }

  /** The id of the session, and the URL that the client sees. Undefined if its requests go elsewhere. */
  #read(url: string): { readonly id: SessionId; readonly shown: string } | undefined {
    const { names, hint, request, createId } = this.#options;
    this.#options.onEndpoint?.();
    const found = findId(url, names);
    if (found && !carriesId(request, names, found.id)) {
      return { id: found.id, shown: hint === undefined ? url : addHint(url, found.spans, hint) };
    }
    const mayAdd = createId !== undefined && isOfOwnOrigin(url, request);
    const id = mayAdd ? parseSessionId(createId()) : undefined;
    if (id === undefined) return undefined;
    const value = hint === undefined ? id : withOwnerHint(id, hint);
    return { id, shown: addOwnParameter(url, value) };
  }

  #finish(out: Uint8Array, discovered = NO_IDS): InspectedChunk {
    this.#isDone = true;
    this.#held = NO_BYTES;
    return inspected(out, discovered, true);
  }
}

/**
 * `pass`: nothing up to this byte can be the URL; `hold`: this byte may be of the URL, or come after it in its
 * event; `complete`: the event has ended, and is one.
 */
type Verdict = 'pass' | 'hold' | 'complete';

/** Reads events byte by byte until one gives an endpoint. Comments and unknown fields do not count. */
class EndpointEvent {
  readonly #lines = new SseLineReader();
  /** Where the current line is, if it is a data field. */
  #place: 'blanks' | 'url' | 'blanks after it' | undefined;
  #name = '';
  /** The current event can't be an endpoint any more. */
  #isRuledOut = false;
  /** The event's data without the blanks around it, one character a byte. Empty until its line has ended. */
  url = '';
  /** How many blanks are before the URL. */
  blanks = 0;

  get isInComment(): boolean {
    return this.#lines.line === COMMENT;
  }

  /** What comes up to the end of the line does not matter. */
  get isSkipped(): boolean {
    return this.#isRuledOut && this.#lines.line !== '';
  }

  /** Not to be called again after `complete`. */
  read(byte: number): Verdict {
    const ended = this.#lines.read(byte);
    if (ended === undefined) this.#readWithinLine(byte, this.#lines.line);
    else if (this.#endLine(ended)) return 'complete';
    const isInValue = this.#place !== undefined && this.#lines.line !== DATA_FIELD;
    return (isInValue || this.url !== '') && !this.#isRuledOut ? 'hold' : 'pass';
  }

  #readWithinLine(byte: number, line: string): void {
    if (this.#isRuledOut || this.url !== '') return;
    if (this.#place !== undefined) this.#readWithinData(byte);
    else if (line === DATA_FIELD) this.#place = 'blanks';
  }

  /** Blanks may be around a URL, but not within (URL standard, "basic URL parser"). */
  #readWithinData(byte: number): void {
    const isBlank = byte === SPACE || byte === TAB;
    if (isBlank && this.#place === 'url') this.#place = 'blanks after it';
    if (isBlank) return;
    const isControl = byte < SPACE || byte === DELETE;
    const isFirst = this.#place === 'blanks';
    this.#isRuledOut =
      isControl || this.#place === 'blanks after it' || (isFirst && JSON_START.has(byte));
    this.#place = 'url';
  }

  /** Whether the line ends an event that is an endpoint. */
  #endLine(line: string): boolean {
    this.#place = undefined;
    if (line === '') return this.#endEvent();
    const { field, value } = parseSseField(line);
    if (field === 'data' && !this.#isRuledOut) this.#readData(line);
    else if (field === 'event') {
      this.#name = value;
      this.#isRuledOut ||= value !== ENDPOINT;
    }
    return false;
  }

  #readData(line: string): void {
    const value = line.slice(DATA_FIELD.length);
    const url = trimBlanks(value);
    // Several data lines are joined by line feeds, which no URL contains.
    this.#isRuledOut ||= this.url !== '' || !URL_LIKE.test(url);
    this.url = url;
    this.blanks = value.indexOf(url);
  }

  #endEvent(): boolean {
    if (!this.#isRuledOut && this.url !== '' && this.#name === ENDPOINT) return true;
    this.#name = '';
    this.#isRuledOut = false;
    this.url = '';
    return false;
  }
}

function endOfLine(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length && bytes[at] !== LF && bytes[at] !== CR) at += 1;
  return at;
}

function trimBlanks(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '');
}

/** The id in a URL's query and where it is, if the first of the names that is there has one value. */
function findId(
  url: string,
  names: readonly string[],
): { id: SessionId; spans: readonly Span[] } | undefined {
  for (const name of names) {
    const spans = findQueryValues(url, name);
    if (spans.length === 0) continue;
    const [text = '', ...others] = new Set(spans.map((span) => decodeQueryText(textAt(url, span))));
    // Two different ids under one name: it is unknown which one the client will use.
    const id = others.length > 0 ? undefined : parseSessionId(text);
    return id === undefined ? undefined : { id, spans };
  }
  return undefined;
}

/** An id that the stream was opened with is not new: other streams may have been opened with it too. */
function carriesId({ target }: RequestHead, names: readonly string[], id: SessionId): boolean {
  return names.some((name) =>
    findQueryValues(target, name).some((span) => {
      const text = decodeQueryText(textAt(target, span));
      return text === id || splitOwnerHint(text)?.id === id;
    }),
  );
}

/**
 * From the last span on, so that the positions of the earlier ones stay valid. `~` needs no escape in a
 * query (RFC 3986 §2.3).
 */
function addHint(url: string, spans: readonly Span[], machine: MachineId): string {
  return spans.reduceRight(
    (text, span) => replaceAt(text, span, withOwnerHint(textAt(text, span), machine)),
    url,
  );
}

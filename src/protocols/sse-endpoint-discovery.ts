/**
 * Discovers the session id in the `endpoint` event at the beginning of an event stream (MCP revision
 * 2024-11-05, "HTTP with SSE"), and puts the owner hint on it. Only what may be that event's URL is held;
 * any other stream passes without a delay.
 *
 *     reading --blank line after event 'endpoint' and its URL--> complete
 *        '----any line that such an event can't have----------> ruled-out
 */
import {
  inspected,
  MAX_HELD_BYTES,
  NO_BYTES,
  type BodyInspector,
  type InspectedChunk,
} from './body-inspector.ts';
import { replaceAt, textAt, type Span } from './heads.ts';
import { withOwnerHint } from './owner-hint.ts';
import type { DiscoveredId, Protocol } from './protocol.ts';
import { decodeQueryText, findQueryValues } from './query.ts';
import { parseSessionId, type MachineId, type SessionId } from '../session.ts';
import { parseSseField, SseLineReader } from './sse-lines.ts';

const SPACE = 0x20;
const DELETE = 0x7f;
const DATA_FIELD = 'data:';
/** No URL begins like this, but JSON does: it rules out most other streams at once. */
const JSON_DATA = /^data: ?[{["]/;

export interface SseEndpointOptions {
  readonly protocol: Protocol;
  /** Names of the query parameter that holds the id. */
  readonly names: readonly string[];
  /** The Machine whose hint the id gets in the URL that the client sees, if any. */
  readonly hint: MachineId | undefined;
}

export class SseEndpointInspector implements BodyInspector {
  readonly #options: SseEndpointOptions;
  readonly #event: EndpointEvent;
  #held = NO_BYTES;
  #isDone = false;

  constructor(options: SseEndpointOptions) {
    this.#options = options;
    this.#event = new EndpointEvent((url) => findId(url, options.names) !== undefined);
  }

  push(chunk: Uint8Array): InspectedChunk {
    if (this.#isDone) return this.#finish(chunk);
    const held = this.#held;
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let holdFrom = held.length === 0 ? bytes.length : 0;
    for (let at = held.length; at < bytes.length; at += 1) {
      const verdict = this.#event.read(bytes[at] ?? 0);
      if (verdict === 'ruled-out') return this.#finish(bytes);
      if (verdict === 'complete') return this.#discover(bytes, holdFrom);
      if (verdict === 'hold') holdFrom = Math.min(holdFrom, at);
      if (at - holdFrom >= MAX_HELD_BYTES) return this.#finish(bytes);
    }
    this.#held = new Uint8Array(bytes.subarray(holdFrom));
    return inspected(bytes.subarray(0, holdFrom), undefined, false);
  }

  end(): InspectedChunk {
    return this.#finish(this.#held);
  }

  /** The value of the data field begins at `holdFrom`, or one space after it. */
  #discover(bytes: Uint8Array, holdFrom: number): InspectedChunk {
    const { protocol, names, hint } = this.#options;
    const { url } = this.#event;
    const found = findId(url, names);
    if (!found) return this.#finish(bytes);
    const discovered = { id: found.id, protocol };
    if (hint === undefined) return this.#finish(bytes, discovered);
    const start = bytes[holdFrom] === SPACE ? holdFrom + 1 : holdFrom;
    const hinted = Buffer.from(addHint(url, found.spans, hint), 'latin1');
    const rest = bytes.subarray(start + url.length);
    return this.#finish(Buffer.concat([bytes.subarray(0, start), hinted, rest]), discovered);
  }

  #finish(out: Uint8Array, discovered?: DiscoveredId): InspectedChunk {
    this.#isDone = true;
    this.#held = NO_BYTES;
    return inspected(out, discovered, true);
  }
}

/** `skip`: may go out; `hold`: may be the URL, or comes after it. */
type Verdict = 'skip' | 'hold' | 'ruled-out' | 'complete';

/** Reads the first event byte by byte. Comments and unknown fields do not count. */
class EndpointEvent {
  readonly #mayBeEndpoint: (url: string) => boolean;
  readonly #lines = new SseLineReader();
  /** The current line is a data field. */
  #isData = false;
  /** The event has the name `endpoint`. */
  #isNamed = false;
  /** The event's data, one character a byte. Empty until its line has ended. */
  url = '';

  constructor(mayBeEndpoint: (url: string) => boolean) {
    this.#mayBeEndpoint = mayBeEndpoint;
  }

  /** Not to be called again after `ruled-out` and `complete`. */
  read(byte: number): Verdict {
    const ended = this.#lines.read(byte);
    if (ended === undefined) return this.#readWithinLine(byte, this.#lines.line);
    this.#isData = false;
    return this.#endLine(ended);
  }

  #readWithinLine(byte: number, line: string): Verdict {
    if (line.length > MAX_HELD_BYTES) return 'ruled-out';
    if (this.url) return 'hold';
    if (this.#isData) return mayBeInUrl(byte, line) ? 'hold' : 'ruled-out';
    this.#isData = line === DATA_FIELD;
    return 'skip';
  }

  #endLine(line: string): Verdict {
    if (line === '') return this.#endEvent();
    const { field, value } = parseSseField(line);
    if (field === 'data') return this.#readData(value);
    if (field === 'event' && value !== 'endpoint') return 'ruled-out';
    if (field === 'event') this.#isNamed = true;
    return this.url ? 'hold' : 'skip';
  }

  #readData(value: string): Verdict {
    // Several data lines are joined by line feeds, which no URL contains.
    if (this.url || !this.#mayBeEndpoint(value)) return 'ruled-out';
    this.url = value;
    return 'hold';
  }

  #endEvent(): Verdict {
    if (this.url) return this.#isNamed ? 'complete' : 'ruled-out';
    // A client never dispatches an event without data, and forgets its name.
    this.#isNamed = false;
    return 'skip';
  }
}

function mayBeInUrl(byte: number, line: string): boolean {
  const length = line.length - DATA_FIELD.length;
  if (byte === SPACE) return length === 1;
  if (byte < SPACE || byte === DELETE) return false;
  return length > 2 || !JSON_DATA.test(line);
}

/** The id in a URL's query and where it is, under the first of the names that is there. */
function findId(
  url: string,
  names: readonly string[],
): { id: SessionId; spans: readonly Span[] } | undefined {
  for (const name of names) {
    const spans = findQueryValues(url, name);
    const [text, ...others] = new Set(spans.map((span) => decodeQueryText(textAt(url, span))));
    // Two different ids under one name: it is unknown which one the client will use.
    if (text === undefined || others.length > 0) continue;
    const id = parseSessionId(text);
    if (id !== undefined) return { id, spans };
  }
  return undefined;
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

/**
 * Learns the session id from the `endpoint` event at the beginning of an event stream, and puts the
 * hint on it. Only what may be that event's URL is held; an ordinary stream waits for nothing.
 */
import { replaceAt, type Span, textAt } from './heads.ts';
import { MAX_HELD_BYTES, type BodyInspector, type InspectedChunk } from './body-inspector.ts';
import { createEndpointEventReader } from './endpoint-event.ts';
import { withOwnerHint } from './owner-hint.ts';
import type { DiscoveredId, Protocol } from './protocol.ts';
import { decodeQueryText, findQuery, findQueryValue } from './query.ts';
import { type MachineId, parseSessionId, type SessionId } from '../session.ts';

const SPACE = 0x20;
const NOTHING = new Uint8Array(0);

/** With a `hint`, the client gets the URL with that Machine's hint on the id. */
export function createSseEndpointInspector(options: {
  readonly protocol: Protocol;
  readonly names: readonly string[];
  readonly hint: MachineId | undefined;
}): BodyInspector {
  const reader = createEndpointEventReader({
    mayBeEndpoint: (url) => findId(url, options.names) !== undefined,
    maxBytes: MAX_HELD_BYTES,
  });
  let held = NOTHING;
  let isDone = false;

  const pushWhileLooking = (chunk: Uint8Array): InspectedChunk => {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let holdFrom = held.length === 0 ? bytes.length : 0;
    for (let at = held.length; at < bytes.length; at += 1) {
      const verdict = reader.read(bytes[at] ?? 0);
      if (verdict === 'ruled-out') return finish(bytes);
      if (verdict === 'complete') return teach(bytes, holdFrom);
      if (verdict === 'hold') holdFrom = Math.min(holdFrom, at);
      if (at - holdFrom >= MAX_HELD_BYTES) return finish(bytes);
    }
    held = new Uint8Array(bytes.subarray(holdFrom));
    return { out: nonEmpty(bytes.subarray(0, holdFrom)), discovered: undefined, isDone: false };
  };

  const finish = (out: Uint8Array, lesson?: DiscoveredId): InspectedChunk => {
    isDone = true;
    held = NOTHING;
    return { out: nonEmpty(out), discovered: lesson, isDone };
  };

  /** The value of the data field begins where the holding began, but for its one space. */
  const teach = (bytes: Uint8Array, holdFrom: number): InspectedChunk => {
    const { protocol, names, hint } = options;
    const url = reader.url();
    const found = findId(url, names);
    if (!found) return finish(bytes);
    const lesson = { id: found.id, protocol };
    if (hint === undefined) return finish(bytes, lesson);
    const start = bytes[holdFrom] === SPACE ? holdFrom + 1 : holdFrom;
    const hinted = Buffer.from(addHint(url, found.spans, hint), 'latin1');
    const rest = bytes.subarray(start + url.length);
    return finish(Buffer.concat([bytes.subarray(0, start), hinted, rest]), lesson);
  };

  return {
    push: (chunk) => (isDone ? finish(chunk) : pushWhileLooking(chunk)),
    end: () => finish(held),
  };
}

/** The id in a URL's query and where it is, under the first of the names that is there. */
function findId(
  url: string,
  names: readonly string[],
): { id: SessionId; spans: readonly Span[] } | undefined {
  for (const name of names) {
    const spans = findAll(url, name);
    const [text, ...others] = new Set(spans.map((span) => decodeQueryText(textAt(url, span))));
    // Two different ids under one name: nobody can tell which one the client's request will mean.
    if (text === undefined || others.length > 0) continue;
    const id = parseSessionId(text);
    if (id !== undefined) return { id, spans };
  }
  return undefined;
}

function findAll(url: string, name: string): Span[] {
  const spans: Span[] = [];
  const query = findQuery(url);
  let span = query && findQueryValue(url, name, query);
  while (query && span) {
    spans.push(span);
    span = findQueryValue(url, name, { start: span.end + 1, end: query.end });
  }
  return spans;
}

/**
 * From the last one on, so that the earlier ones stay where they are. `~` needs no escape in a query
 * (RFC 3986 §2.3).
 */
function addHint(url: string, spans: readonly Span[], machine: MachineId): string {
  return spans.reduceRight(
    (text, span) => replaceAt(text, span, withOwnerHint(textAt(text, span), machine)),
    url,
  );
}

function nonEmpty(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.length > 0 ? bytes : undefined;
}

/**
 * Where an app reveals the ids that it mints into URLs: the `from` of an entry in `SESSION_PROTOCOLS`, such as
 * `path:^/api/kernels/([^/]+) from json:/id,location`.
 */
import { mayHoldJsonId, parsePointer, readJsonId } from './json-id.ts';
import { JSON_TYPE, type RequestHead } from './heads.ts';
import type { Discovery, IdLocation } from './protocol.ts';

const JSON_SOURCE = 'json:';
const LOCATION_SOURCE = 'location';
const ENDPOINT_SOURCE = 'endpoint';
const NAMED_SOURCE = /^(response-header|set-cookie):([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;

const EXPECTED =
  'expected json:/POINTER, location, response-header:NAME, set-cookie:NAME or endpoint';

/** Whether a piece of the list is a source, and no entry of its own. */
export function isSource(text: string): boolean {
  return (
    [LOCATION_SOURCE, ENDPOINT_SOURCE].includes(text) ||
    [JSON_SOURCE, 'response-header:', 'set-cookie:'].some((prefix) => text.startsWith(prefix))
  );
}

/** `column`: where the list of sources begins in the setting. A mistake is a sentence without its subject. */
export function parseSources(
  text: string,
  column: number,
  idLocation: IdLocation,
):
  | { readonly value: readonly Discovery[] }
  | { readonly mistake: string }
  | { readonly unknownWord: string; readonly place: number } {
  const discoveries: Discovery[] = [];
  let at = 0;
  for (const piece of text.split(',')) {
    const source = piece.trim();
    const place = column + at + piece.indexOf(source);
    const blank = source.search(/\s/);
    if (blank !== -1) {
      const word = source.slice(blank).trimStart();
      return { unknownWord: word, place: place + source.length - word.length };
    }
    const found = parseSource(source, idLocation);
    if (!found) return { mistake: mistakeOf(source, place, idLocation) };
    discoveries.push(...found);
    at += piece.length + 1;
  }
  return { value: discoveries };
}

function mistakeOf(source: string, place: number, { in: location }: IdLocation): string {
  const shown = JSON.stringify(source);
  const isForUrls = source === LOCATION_SOURCE || source === ENDPOINT_SOURCE;
  if (!isForUrls) return `has an unknown source ${shown} at column ${place}: ${EXPECTED}`;
  const [named, ofUrls] =
    source === LOCATION_SOURCE ? ['path: and query:', 'URL'] : ['query:', 'query'];
  return `has ${shown} at column ${place} for a ${location}: only ids of ${named} are in a ${ofUrls}`;
}

/** A URL has its id in the same place as a request: in the path or in the query. */
function parseSource(source: string, idLocation: IdLocation): readonly Discovery[] | undefined {
  const isInUrl = idLocation.in === 'path' || idLocation.in === 'query';
  if (source === LOCATION_SOURCE && isInUrl) return [{ from: 'location', idLocation }];
  if (source === ENDPOINT_SOURCE && idLocation.in === 'query')
    return [{ from: 'sse-endpoint', names: [idLocation.name] }];
  const [, kind, name = ''] = NAMED_SOURCE.exec(source) ?? [];
  if (kind === 'set-cookie') {
    const isItself = idLocation.in === 'cookie' && idLocation.name === name;
    return [{ from: 'set-cookie', name, ...(!isItself && { isPlain: true }) }];
  }
  if (kind !== undefined) return [{ from: 'header', name: name.toLowerCase(), isPlain: true }];
  const pointer = source.startsWith(JSON_SOURCE)
    ? parsePointer(source.slice(JSON_SOURCE.length))
    : undefined;
  return pointer && jsonDiscoveries(pointer);
}

/** In a response of JSON, or in a message of an event stream. */
function jsonDiscoveries(pointer: readonly string[]): readonly Discovery[] {
  const read = (text: string): string | undefined => readJsonId(text, pointer);
  return [
    {
      from: 'body',
      mayRevealId: createsSomething,
      contentType: JSON_TYPE,
      begin: /[\s{[]/,
      read,
    },
    {
      from: 'sse-message',
      mayRevealId: createsSomething,
      mayHold: (text) => mayHoldJsonId(text, pointer),
      read,
    },
  ];
}

/**
 * Only the response to these is held and inspected: a GET reads what was created before, and is compressed as
 * the client likes.
 */
function createsSomething({ method }: RequestHead): boolean {
  return method === 'POST' || method === 'PUT';
}

/**
 * Where an app reveals the ids that it mints into URLs: the `from` of an entry in `SESSION_PROTOCOLS`, such as
 * `path:^/api/kernels/([^/]+) from json:/id,location`.
 */
import { parsePointer, readJsonId } from './json-id.ts';
import type { RequestHead } from './heads.ts';
import type { Discovery, UrlIdLocation } from './protocol.ts';

const JSON_SOURCE = 'json:';
const LOCATION_SOURCE = 'location';
const HEADER_SOURCE = /^response-header:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;

const EXPECTED = 'expected json:/POINTER, location or response-header:NAME';

/** Whether a piece of the list is a source, and no entry of its own. */
export function isSource(text: string): boolean {
  return (
    text === LOCATION_SOURCE || text.startsWith(JSON_SOURCE) || text.startsWith('response-header:')
  );
}

/** `column`: where the list of sources begins in the setting. A mistake is a sentence without its subject. */
export function parseSources(
  text: string,
  column: number,
  idLocation: UrlIdLocation,
):
  | { readonly value: readonly Discovery[]; readonly mistake?: never }
  | { readonly value?: never; readonly mistake: string } {
  const discoveries: Discovery[] = [];
  let at = 0;
  for (const piece of text.split(',')) {
    const source = piece.trim();
    const found = parseSource(source, idLocation);
    if (!found) {
      const place = column + at + piece.indexOf(source);
      return {
        mistake: `has an unknown source ${JSON.stringify(source)} at column ${place}: ${EXPECTED}`,
      };
    }
    discoveries.push(...found);
    at += piece.length + 1;
  }
  return { value: discoveries };
}

function parseSource(source: string, idLocation: UrlIdLocation): readonly Discovery[] | undefined {
  if (source === LOCATION_SOURCE) return [{ from: 'location', idLocation }];
  const name = HEADER_SOURCE.exec(source)?.[1];
  if (name !== undefined) return [{ from: 'header', name: name.toLowerCase(), isPlain: true }];
  const pointer = source.startsWith(JSON_SOURCE)
    ? parsePointer(source.slice(JSON_SOURCE.length))
    : undefined;
  return pointer && jsonDiscoveries(pointer);
}

/** In a response of JSON, or in a message of an event stream. */
export function jsonDiscoveries(pointer: readonly string[]): readonly Discovery[] {
  const read = (text: string): string | undefined => readJsonId(text, pointer);
  return [
    {
      from: 'body',
      mayRevealId: createsSomething,
      contentTypes: ['application/json', '+json'],
      begin: /[\s{[]/,
      read,
    },
    { from: 'sse-message', mayRevealId: createsSomething, read },
  ];
}

/**
 * Only the response to these is held and inspected: a GET reads what was created before, and is compressed as
 * the client likes.
 */
function createsSomething({ method }: RequestHead): boolean {
  return method === 'POST' || method === 'PUT';
}

/**
 * Parses `SESSION_PROTOCOLS`: `auto`, presets, and protocols that the setting spells itself, such as
 * `path:^/api/kernels/([^/]+) from json:/id,location ends:delete`.
 */
import { isSource, parseSources } from './id-sources.ts';
import { parsePointer } from './json-id.ts';
import { parsePathPattern } from './path-pattern.ts';
import { AUTO, PRESETS } from './presets.ts';
import type { IdLocation, Protocol } from './protocol.ts';
import { cookieProtocol } from './session-cookies.ts';

/** What `SESSION_PROTOCOLS` may list. */
export const PRESET_NAMES: readonly string[] = [
  ...['auto', ...Object.keys(PRESETS)],
  ...['cookie:NAME', 'header:NAME', 'query:NAME', 'path:REGEX', 'body:/POINTER'],
];

const EXPECTED = `must be a comma-separated list of ${PRESET_NAMES.join(', ')}`;

/** The name of a cookie and of a header is a token (RFC 6265 §4.1.1, RFC 9110 §5.1, §5.6.2). */
const TOKEN_LOCATION = /^(cookie|header):([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;
/** A name without its escapes; the separators of pairs are in no name. */
const QUERY_LOCATION = /^query:([^\s&=#,]+)$/;
const BODY_LOCATION = /^body:(.+)$/;
/** Between where a request has the id and where the app reveals it. */
const FROM = /\sfrom(?=\s|$)/;

type Parsed<Value> =
  | { readonly value: Value; readonly mistake?: never }
  | { readonly value?: never; readonly mistake: string };

/** Each mistake is a sentence without its subject, the setting's name. */
export function parseProtocols(
  text: string,
): { protocols: Protocol[]; mistakes?: never } | { protocols?: never; mistakes: string[] } {
  const protocols: Protocol[] = [];
  const mistakes: string[] = [];
  const named = new Set<string>();
  for (const { entry, column } of splitList(text)) {
    const { value = [], mistake } = parseEntry(entry, column);
    const name = value.length > 1 ? splitWords(entry).entry : (value[0]?.name ?? entry);
    if (mistake !== undefined) mistakes.push(mistake);
    else if (named.has(name)) {
      mistakes.push(`must name each protocol once, got ${JSON.stringify(entry)} again`);
    } else protocols.push(...value);
    named.add(name);
  }
  return mistakes.length > 0 ? { mistakes } : { protocols: withoutShapes(protocols) };
}

/** A protocol that is listed beside `auto` replaces the shape that `auto` has of it. */
function withoutShapes(protocols: readonly Protocol[]): Protocol[] {
  const listed = Map.groupBy(
    protocols.filter((row) => !AUTO.includes(row)),
    ({ name }) => name,
  );
  const chosen = protocols.flatMap((row) =>
    AUTO.includes(row) ? (listed.get(row.name) ?? [row]) : [row],
  );
  return [...new Set(chosen)];
}

/** As a person would list them. */
export function listedNames(protocols: readonly Protocol[]): readonly string[] {
  const isAuto = protocols.some((row) => AUTO.includes(row));
  const listed = protocols.filter((row) => !AUTO.includes(row)).map(({ name }) => name);
  return isAuto ? ['auto', ...listed] : listed;
}

/** One entry of the list, and where it begins; columns count from 1. */
interface Entry {
  readonly entry: string;
  readonly column: number;
}

/**
 * Splits at commas, but not at those of a pattern: within `()`, `[]` and `{}`, and behind a backslash. In a
 * class every bracket but its own end is an ordinary character. Sources belong to the entry before them.
 */
function splitList(text: string): readonly Entry[] {
  const pieces: Entry[] = [];
  let start = 0;
  let depth = 0;
  let isInClass = false;
  const add = (end: number): void => {
    const piece = text.slice(start, end);
    const blanks = piece.length - piece.trimStart().length;
    pieces.push({ entry: piece.trim(), column: start + blanks + 1 });
    start = end + 1;
  };
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? '';
    if (character === '\\') at += 1;
    else if (isInClass) isInClass = character !== ']';
    else if (character === '[') isInClass = true;
    else if (character === '(' || character === '{') depth += 1;
    else if (character === ')' || character === '}') depth = Math.max(0, depth - 1);
    else if (character === ',' && depth === 0) add(at);
  }
  add(text.length);
  return joinSources(pieces, text);
}

/** Joins `path:REGEX from json:/id` and the `location` behind its comma. */
function joinSources(pieces: readonly Entry[], text: string): readonly Entry[] {
  const entries: Entry[] = [];
  for (const piece of pieces) {
    const last = entries.at(-1);
    const [firstWord = ''] = piece.entry.split(/\s/, 1);
    if (!last || !FROM.test(last.entry) || !isSource(firstWord)) {
      entries.push(piece);
      continue;
    }
    const end = piece.column - 1 + piece.entry.length;
    entries[entries.length - 1] = { ...last, entry: text.slice(last.column - 1, end) };
  }
  return entries;
}

function parseEntry(whole: string, column: number): Parsed<readonly Protocol[]> {
  const { entry, words } = splitWords(whole);
  const from = entry.search(FROM);
  const preset = parsePreset(from === -1 ? entry : entry.slice(0, from).trimEnd(), column);
  if (preset.mistake !== undefined) return preset;
  const sourced = from === -1 ? preset : withSources(preset.value, entry, from, column);
  if (sourced.mistake !== undefined || words.length === 0) return sourced;
  const changes = Object.assign({}, ...words.map((word) => WORDS[word] ?? {})) as Partial<Protocol>;
  return { value: sourced.value.map((protocol) => ({ ...protocol, ...changes })) };
}

/** What may stand behind a protocol, and what it changes. */
const WORDS: Readonly<Record<string, Partial<Protocol>>> = {
  soft: { isSoft: true },
  'by:app': { mintedBy: 'app' },
  'by:client': { mintedBy: 'client' },
  'by:either': { mintedBy: 'either' },
  'ends:delete': { endsBy: 'delete' },
  'ends:expiry': { endsBy: 'expiry' },
  'unknown:problem': { errorForm: 'problem' },
  'unknown:mcp': { errorForm: 'mcp' },
  'unknown:socket.io': { errorForm: 'socket.io' },
  'unknown:webdriver': { errorForm: 'webdriver' },
};

function isSameKind(one: string, other: string): boolean {
  return one.split(':', 1)[0] === other.split(':', 1)[0];
}

const LAST_WORD = /\s+(\S+)$/;

function splitWords(whole: string): { readonly entry: string; readonly words: readonly string[] } {
  const words: string[] = [];
  let entry = whole;
  for (;;) {
    const word = LAST_WORD.exec(entry);
    const text = word?.[1] ?? '';
    // A second word of a kind is left for the error.
    const isKnown = Object.hasOwn(WORDS, text) && !words.some((other) => isSameKind(other, text));
    if (!word || !isKnown) return { entry, words };
    words.unshift(text);
    entry = entry.slice(0, word.index);
  }
}

/** A known word may only stand behind the sources. */
function unknownWord(word: string, place: number, others: readonly string[]): Parsed<never> {
  const shown = JSON.stringify(word);
  if (Object.hasOwn(WORDS, word)) {
    return { mistake: `has ${shown} at column ${place}: it must be behind the sources, once` };
  }
  const expected = [...others, ...Object.keys(WORDS)].join(', ');
  return { mistake: `has an unknown ${shown} at column ${place}: expected ${expected}` };
}

function withSources(
  protocols: readonly Protocol[],
  entry: string,
  from: number,
  column: number,
): Parsed<readonly Protocol[]> {
  const [protocol, ...others] = protocols;
  const [idLocation] = protocol?.idLocations ?? [];
  const isSpelled = entry.slice(0, from).includes(':');
  if (!protocol || !idLocation || others.length > 0 || !isSpelled) {
    const place = `column ${column + from + 1}`;
    return { mistake: `has a "from" at ${place} behind what says itself where its ids come from` };
  }
  const start = from + ' from'.length;
  const sources = parseSources(entry.slice(start), column + start, idLocation);
  if ('unknownWord' in sources) return unknownWord(sources.unknownWord, sources.place, []);
  if ('mistake' in sources) return sources;
  const revealed = { ...protocol, mintedBy: 'app', discoveries: sources.value } as const;
  const isEndpoint = sources.value.some((discovery) => discovery.from === 'sse-endpoint');
  return { value: [isEndpoint ? ofEndpoint(revealed) : revealed] };
}

/** The URL of an endpoint event gets a hint, and its session lives as long as its stream. */
function ofEndpoint(protocol: Protocol): Protocol {
  const idLocations = protocol.idLocations.map((location) =>
    location.in === 'query' ? { ...location, mayCarryHint: true } : location,
  );
  return { ...protocol, idLocations, endsBy: 'stream-end' };
}

function parsePreset(entry: string, column: number): Parsed<readonly Protocol[]> {
  if (entry === 'auto') return { value: AUTO };
  const blank = entry.search(/\s/);
  if (blank !== -1) {
    const word = entry.slice(blank).trimStart();
    return unknownWord(word, column + entry.length - word.length, ['from']);
  }
  if (entry.startsWith('path:')) return parsePathLocation(entry.slice('path:'.length));
  const pointer = BODY_LOCATION.exec(entry)?.[1];
  if (pointer !== undefined) return parseBodyLocation(entry, pointer);
  const query = QUERY_LOCATION.exec(entry)?.[1];
  if (query !== undefined) {
    return { value: [clientProtocol(entry, { in: 'query', name: query, mayCarryHint: false })] };
  }
  const [, location, name = ''] = TOKEN_LOCATION.exec(entry) ?? [];
  if (location === 'cookie') return { value: [cookieProtocol(`cookie:${name}`, [name])] };
  if (location === 'header') return { value: [headerProtocol(name.toLowerCase())] };
  const preset = Object.hasOwn(PRESETS, entry) ? PRESETS[entry] : undefined;
  return preset
    ? { value: preset.protocols }
    : { mistake: `${EXPECTED}, got ${JSON.stringify(entry)}${suggestionFor(entry)}` };
}

/** For `socketio`, `Socket.IO`, `y-websocket`. */
function suggestionFor(entry: string): string {
  const wanted = plainOf(entry);
  if (wanted.length < 2) return '';
  const names = Object.keys(PRESETS);
  const found =
    names.find((name) => plainOf(name) === wanted) ??
    names.find((name) => plainOf(PRESETS[name]?.products ?? '').includes(wanted));
  return found === undefined ? '' : `; did you mean ${found}?`;
}

function plainOf(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]/g, '');
}

function parsePathLocation(source: string): Parsed<readonly Protocol[]> {
  const { pattern, mistake } = parsePathPattern(source);
  if (pattern) return { value: [clientProtocol(`path:${source}`, { in: 'path', pattern })] };
  return { mistake: `holds a pattern that ${mistake}: ${JSON.stringify(`path:${source}`)}` };
}

function parseBodyLocation(entry: string, text: string): Parsed<readonly Protocol[]> {
  const pointer = parsePointer(text);
  if (pointer) return { value: [clientProtocol(entry, { in: 'body', pointer })] };
  return { mistake: `holds no JSON pointer such as body:/user/id: ${JSON.stringify(entry)}` };
}

function headerProtocol(name: string): Protocol {
  return {
    name: `header:${name}`,
    idLocations: [{ in: 'header', name, mayCarryHint: true }],
    mintedBy: 'either',
    discoveries: [{ from: 'header', name }],
    errorForm: 'problem',
    endsBy: 'expiry',
    isMcp: false,
  };
}

/** No response reveals these ids, so none has a hint: the text is the id as it is. */
function clientProtocol(name: string, location: IdLocation): Protocol {
  return {
    name,
    idLocations: [location],
    mintedBy: 'client',
    discoveries: [],
    errorForm: 'problem',
    endsBy: 'expiry',
    isMcp: false,
  };
}

/**
 * The presets, one row each: where a protocol keeps its session id, who mints it, what reveals it, what ends
 * it and what an unknown session gets. A new protocol is a new row. Functions that a row needs stand in a file
 * of its own, such as `signalr.ts`.
 */
import { MCP_TASKS } from './mcp.ts';
import { OWN_PARAMETER } from './own-parameter.ts';
import { isSource, parseSources } from './id-sources.ts';
import { parsePathPattern } from './path-pattern.ts';
import type { Protocol } from './protocol.ts';
import { SIGNALR } from './signalr.ts';
import { SOCKET_IO } from './socket-io.ts';

/** By the name in `SESSION_PROTOCOLS`. */
const PRESETS: Readonly<Record<string, readonly Protocol[]>> = {
  /** It has sessions, and in later revisions tasks. */
  mcp: [
    {
      name: 'mcp',
      idLocations: [{ in: 'header', name: 'mcp-session-id', mayCarryHint: true }],
      mintedBy: 'app',
      discoveries: [{ from: 'header', name: 'mcp-session-id' }],
      errorForm: 'mcp',
      endsBy: 'delete',
      isMcp: true,
    },
    MCP_TASKS,
  ],
  'mcp-sse': [
    {
      name: 'mcp-sse',
      idLocations: [
        { in: 'query', name: OWN_PARAMETER, mayCarryHint: true },
        { in: 'query', name: 'session_id', mayCarryHint: true },
        { in: 'query', name: 'sessionId', mayCarryHint: true },
      ],
      mintedBy: 'app',
      discoveries: [{ from: 'sse-endpoint', names: ['session_id', 'sessionId'] }],
      errorForm: 'mcp',
      endsBy: 'stream-end',
      isMcp: true,
    },
  ],
  rpc: [
    {
      name: 'rpc',
      idLocations: [
        // Only the header gets a hint, but a client may repeat the header's id in its queries.
        { in: 'query', name: 'session_id', mayCarryHint: true },
        { in: 'header', name: 'x-session-id', mayCarryHint: true },
      ],
      mintedBy: 'either',
      discoveries: [{ from: 'header', name: 'x-session-id' }],
      errorForm: 'problem',
      endsBy: 'expiry',
      isMcp: false,
    },
  ],
  'socket.io': [SOCKET_IO],
  signalr: [SIGNALR],
};

function cookieProtocol(cookie: string): Protocol {
  return {
    name: `cookie:${cookie}`,
    idLocations: [{ in: 'cookie', name: cookie, mayCarryHint: true }],
    mintedBy: 'app',
    discoveries: [{ from: 'set-cookie', name: cookie }],
    errorForm: 'problem',
    endsBy: 'expiring-cookie',
    isSoft: true,
    isMcp: false,
  };
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
function clientProtocol(name: string, location: Protocol['idLocations'][number]): Protocol {
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

/** The name of a cookie and of a header is a token (RFC 6265 §4.1.1, RFC 9110 §5.1, §5.6.2). */
const TOKEN_PRESET = /^(cookie|header):([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;
/** A name without its escapes; the separators of pairs are in no name. */
const QUERY_PRESET = /^query:([^\s&=#,]+)$/;

/** Between where a request has the id and where the app reveals it. */
const FROM = /\sfrom(?=\s|$)/;

/** What `SESSION_PROTOCOLS` may list. */
export const PRESET_NAMES: readonly string[] = [
  ...Object.keys(PRESETS),
  ...['cookie:NAME', 'header:NAME', 'query:NAME', 'path:REGEX'],
];

const EXPECTED = `must be a comma-separated list of ${PRESET_NAMES.join(', ')}`;

export type Parsed<Value> =
  | { readonly value: Value; readonly mistake?: never }
  | { readonly value?: never; readonly mistake: string };

/** Parses `SESSION_PROTOCOLS`. Each mistake is a sentence without its subject, the setting's name. */
export function parseProtocols(
  text: string,
): { protocols: Protocol[]; mistakes?: never } | { protocols?: never; mistakes: string[] } {
  const protocols: Protocol[] = [];
  const mistakes: string[] = [];
  for (const { entry, column } of splitList(text)) {
    const { value: named = [], mistake } = parseEntry(entry, column);
    const isNamedBefore = protocols.some(({ name }) => name === named[0]?.name);
    if (mistake !== undefined) mistakes.push(mistake);
    else if (isNamedBefore) {
      mistakes.push(`must name each protocol once, got ${JSON.stringify(entry)} again`);
    } else protocols.push(...named);
  }
  return mistakes.length > 0 ? { mistakes } : { protocols };
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
    if (!last || !FROM.test(last.entry) || !isSource(piece.entry)) {
      entries.push(piece);
      continue;
    }
    const end = piece.column - 1 + piece.entry.length;
    entries[entries.length - 1] = { ...last, entry: text.slice(last.column - 1, end) };
  }
  return entries;
}

function parseEntry(entry: string, column: number): Parsed<readonly Protocol[]> {
  const at = entry.search(FROM);
  if (at === -1) return parsePreset(entry);
  const { value, mistake } = parsePreset(entry.slice(0, at).trimEnd());
  if (mistake !== undefined) return { mistake };
  const [protocol] = value;
  const [idLocation] = protocol?.idLocations ?? [];
  const isInUrl = idLocation?.in === 'path' || idLocation?.in === 'query';
  if (!protocol || !isInUrl) {
    const place = `column ${column + at + 1}`;
    return { mistake: `has a "from" at ${place} that belongs to no path:REGEX or query:NAME` };
  }
  const sources = parseSources(
    entry.slice(at + ' from'.length),
    column + at + ' from'.length,
    idLocation,
  );
  if (sources.mistake !== undefined) return sources;
  return { value: [{ ...protocol, mintedBy: 'app', discoveries: sources.value }] };
}

function parsePreset(entry: string): Parsed<readonly Protocol[]> {
  if (entry.startsWith('path:')) return parsePathPreset(entry.slice('path:'.length));
  const query = QUERY_PRESET.exec(entry)?.[1];
  if (query !== undefined) {
    return { value: [clientProtocol(entry, { in: 'query', name: query, mayCarryHint: false })] };
  }
  const [, location, name = ''] = TOKEN_PRESET.exec(entry) ?? [];
  if (location === 'cookie') return { value: [cookieProtocol(name)] };
  if (location === 'header') return { value: [headerProtocol(name.toLowerCase())] };
  const preset = Object.hasOwn(PRESETS, entry) ? PRESETS[entry] : undefined;
  return preset ? { value: preset } : { mistake: `${EXPECTED}, got ${JSON.stringify(entry)}` };
}

function parsePathPreset(source: string): Parsed<readonly Protocol[]> {
  const { pattern, mistake } = parsePathPattern(source);
  if (pattern) return { value: [clientProtocol(`path:${source}`, { in: 'path', pattern })] };
  return { mistake: `holds a pattern that ${mistake}: ${JSON.stringify(`path:${source}`)}` };
}

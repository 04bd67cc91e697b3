/**
 * The presets: where each protocol keeps its session id, who mints it, what teaches it, what ends it
 * and how a refusal looks. A new protocol is a new row here, or a file of its own where it has to be
 * read in a way of its own.
 */
import { MCP_TASKS } from './mcp.ts';
import { parsePathPattern } from './path-pattern.ts';
import type { Protocol } from './protocol.ts';
import { SIGNALR } from './signalr.ts';
import { SOCKET_IO } from './socket-io.ts';

const MCP: Protocol = {
  name: 'mcp',
  idLocations: [{ in: 'header', name: 'mcp-session-id', readsHint: true }],
  mintedBy: 'app',
  discoveries: [{ from: 'header', name: 'mcp-session-id' }],
  errorForm: 'mcp',
  endsBy: 'delete',
  isMcp: true,
};

const MCP_SSE: Protocol = {
  name: 'mcp-sse',
  idLocations: [
    { in: 'query', name: 'session_id', readsHint: true },
    { in: 'query', name: 'sessionId', readsHint: true },
  ],
  mintedBy: 'app',
  discoveries: [{ from: 'sse-endpoint', names: ['session_id', 'sessionId'] }],
  errorForm: 'mcp',
  endsBy: 'stream-end',
  isMcp: true,
};

const RPC: Protocol = {
  name: 'rpc',
  idLocations: [
    // Only the header is given a hint, but a client may carry the header's id on in its queries.
    { in: 'query', name: 'session_id', readsHint: true },
    { in: 'header', name: 'x-session-id', readsHint: true },
  ],
  mintedBy: 'either',
  discoveries: [{ from: 'header', name: 'x-session-id' }],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
};

const cookieProtocol = (cookie: string): Protocol => ({
  name: `cookie:${cookie}`,
  idLocations: [{ in: 'cookie', name: cookie, readsHint: true }],
  mintedBy: 'app',
  discoveries: [{ from: 'set-cookie', name: cookie }],
  errorForm: 'problem',
  endsBy: 'expiring-cookie',
  isMcp: false,
});

/** The same name in a query: nothing there has been given a hint, so the text is the id as it is. */
const queryProtocol = (name: string): Protocol => ({
  name: `query:${name}`,
  idLocations: [{ in: 'query', name, readsHint: false }],
  mintedBy: 'client',
  discoveries: [],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
});

const headerProtocol = (name: string): Protocol => ({
  name: `header:${name}`,
  idLocations: [{ in: 'header', name, readsHint: true }],
  mintedBy: 'either',
  discoveries: [{ from: 'header', name }],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
});

const pathProtocol = (source: string, pattern: RegExp): Protocol => ({
  name: `path:${source}`,
  idLocations: [{ in: 'path', pattern }],
  mintedBy: 'client',
  discoveries: [],
  errorForm: 'problem',
  endsBy: 'expiry',
  isMcp: false,
});

/** What each name stands for: MCP has sessions, and in later revisions tasks. */
const PRESETS: ReadonlyMap<string, readonly Protocol[]> = new Map([
  ['mcp', [MCP, MCP_TASKS]],
  ['mcp-sse', [MCP_SSE]],
  ['rpc', [RPC]],
  ['socket.io', [SOCKET_IO]],
  ['signalr', [SIGNALR]],
]);

/** The name of a cookie and of a header is a token (RFC 6265 §4.1.1, RFC 9110 §5.1, §5.6.2). */
const TOKEN_PRESET = /^(cookie|header):([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;
/** As it is once escapes are decoded; what separates pairs is in no name. */
const QUERY_PRESET = /^query:([^\s&=#,]+)$/;

const EXPECTED = `must be a comma-separated list of ${[...PRESETS.keys()].join(', ')}, cookie:NAME, header:NAME, query:NAME, path:REGEX`;

type Parsed<Value> =
  | { readonly value: Value; readonly mistake?: never }
  | { readonly value?: never; readonly mistake: string };

/** Reads `SESSION_PROTOCOLS`. Each mistake is a sentence that wants the setting's name in front. */
export function parseProtocols(
  text: string,
): { protocols: Protocol[]; mistakes?: never } | { protocols?: never; mistakes: string[] } {
  const protocols: Protocol[] = [];
  const mistakes: string[] = [];
  for (const entry of splitList(text)) {
    const { value: meant = [], mistake } = parsePreset(entry);
    const isNamedBefore = protocols.some(({ name }) => name === meant[0]?.name);
    if (mistake !== undefined) mistakes.push(mistake);
    else if (isNamedBefore) {
      mistakes.push(`must name each protocol once, got ${JSON.stringify(entry)} again`);
    } else protocols.push(...meant);
  }
  return mistakes.length > 0 ? { mistakes } : { protocols };
}

/**
 * At the commas, but for those of a pattern: within `()`, `[]` and `{}`, and behind a backslash. In a
 * class every bracket but its own end is a character as any other.
 */
function splitList(text: string): readonly string[] {
  const entries = [''];
  let depth = 0;
  let isInClass = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at] ?? '';
    const isSeparator = character === ',' && depth === 0 && !isInClass;
    if (isSeparator) {
      entries.push('');
      continue;
    }
    const piece = character === '\\' ? text.slice(at, at + 2) : character;
    entries.push((entries.pop() ?? '') + piece);
    at += piece.length - 1;
    if (isInClass) isInClass = piece !== ']';
    else if (piece === '[') isInClass = true;
    else if (piece === '(' || piece === '{') depth += 1;
    else if (piece === ')' || piece === '}') depth = Math.max(0, depth - 1);
  }
  return entries.map((entry) => entry.trim());
}

function parsePreset(entry: string): Parsed<readonly Protocol[]> {
  if (entry.startsWith('path:')) return parsePathPreset(entry.slice('path:'.length));
  const query = QUERY_PRESET.exec(entry)?.[1];
  if (query !== undefined) return { value: [queryProtocol(query)] };
  const [, place, name = ''] = TOKEN_PRESET.exec(entry) ?? [];
  if (place === 'cookie') return { value: [cookieProtocol(name)] };
  if (place === 'header') return { value: [headerProtocol(name.toLowerCase())] };
  const preset = PRESETS.get(entry);
  return preset ? { value: preset } : { mistake: `${EXPECTED}, got ${JSON.stringify(entry)}` };
}

function parsePathPreset(source: string): Parsed<readonly Protocol[]> {
  const { pattern, mistake } = parsePathPattern(source);
  if (pattern) return { value: [pathProtocol(source, pattern)] };
  return { mistake: `holds a pattern that ${mistake}: ${JSON.stringify(`path:${source}`)}` };
}

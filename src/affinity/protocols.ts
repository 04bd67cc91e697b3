/**
 * The presets: where each protocol keeps its session id, who mints it, what teaches it, what ends
 * it and how a refusal looks. A new protocol is a new row here.
 */
import type { SessionId } from './session.ts';

/** Where a request may carry an id. `readsHint`: a `~<machine>` at its end may be ours. */
export type IdSource =
  /** The name is in lower case. */
  | { readonly in: 'header'; readonly name: string; readonly readsHint: boolean }
  | { readonly in: 'query'; readonly name: string; readonly readsHint: boolean }
  | { readonly in: 'cookie'; readonly name: string; readonly readsHint: boolean }
  /** The pattern's first group; matched against the path without the query. */
  | { readonly in: 'path'; readonly pattern: RegExp };

/** Where an answer reveals an id that the app has minted. What goes out there gets a hint. */
export type LessonSource =
  /** The name is in lower case. */
  | { readonly from: 'header'; readonly name: string }
  | { readonly from: 'set-cookie'; readonly name: string }
  /** The query of the URL in a stream's first event, which is called `endpoint`. */
  | { readonly from: 'sse-endpoint'; readonly names: readonly string[] };

/** Whose ids these are: `either` if an app may mint them and a client may bring its own. */
export type Minter = 'app' | 'client' | 'either';

export interface Protocol {
  /** As configured: `mcp`, `cookie:sid`. */
  readonly name: string;
  /** In the order in which they are looked at. */
  readonly sources: readonly IdSource[];
  readonly mintedBy: Minter;
  readonly lessons: readonly LessonSource[];
  /** `mcp`: a JSON-RPC error; `problem`: `application/problem+json` (RFC 9457). */
  readonly refusal: 'mcp' | 'problem';
  /**
   * What ends a session before it expires: a DELETE that the app answers 2xx, a `set-cookie` that
   * expires, or the end of the stream that has taught the id.
   */
  readonly endsBy: 'delete' | 'expiring-cookie' | 'stream-end' | 'expiry';
  /** Has no sessions in a request of MCP revision 2026-07-28 or newer. */
  readonly isMcp: boolean;
}

/** What an answer teaches: an id that the app has minted. */
export interface Lesson {
  readonly id: SessionId;
  readonly protocol: Protocol;
}

const MCP: Protocol = {
  name: 'mcp',
  sources: [{ in: 'header', name: 'mcp-session-id', readsHint: true }],
  mintedBy: 'app',
  lessons: [{ from: 'header', name: 'mcp-session-id' }],
  refusal: 'mcp',
  endsBy: 'delete',
  isMcp: true,
};

const MCP_SSE: Protocol = {
  name: 'mcp-sse',
  sources: [
    { in: 'query', name: 'session_id', readsHint: true },
    { in: 'query', name: 'sessionId', readsHint: true },
  ],
  mintedBy: 'app',
  lessons: [{ from: 'sse-endpoint', names: ['session_id', 'sessionId'] }],
  refusal: 'mcp',
  endsBy: 'stream-end',
  isMcp: true,
};

const RPC: Protocol = {
  name: 'rpc',
  sources: [
    // Only the header is given a hint, but a client may carry the header's id on in its queries.
    { in: 'query', name: 'session_id', readsHint: true },
    { in: 'header', name: 'x-session-id', readsHint: true },
  ],
  mintedBy: 'either',
  lessons: [{ from: 'header', name: 'x-session-id' }],
  refusal: 'problem',
  endsBy: 'expiry',
  isMcp: false,
};

const cookieProtocol = (cookie: string): Protocol => ({
  name: `cookie:${cookie}`,
  sources: [{ in: 'cookie', name: cookie, readsHint: true }],
  mintedBy: 'app',
  lessons: [{ from: 'set-cookie', name: cookie }],
  refusal: 'problem',
  endsBy: 'expiring-cookie',
  isMcp: false,
});

const PRESETS: ReadonlyMap<string, Protocol> = new Map(
  [MCP, MCP_SSE, RPC].map((protocol) => [protocol.name, protocol]),
);

/** A cookie's name is a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2). */
const COOKIE_PRESET = /^cookie:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;

const EXPECTED = `must be a comma-separated list of ${[...PRESETS.keys()].join(', ')}, cookie:NAME`;

/** Reads `SESSION_PROTOCOLS`. Each mistake is a sentence that wants the setting's name in front. */
export function parseProtocols(
  text: string,
): { protocols: Protocol[]; mistakes?: never } | { protocols?: never; mistakes: string[] } {
  const protocols: Protocol[] = [];
  const mistakes: string[] = [];
  for (const name of text.split(',').map((part) => part.trim())) {
    const protocol = presetOf(name);
    if (!protocol) mistakes.push(`${EXPECTED}, got ${JSON.stringify(name)}`);
    else if (protocols.some((other) => other.name === name)) {
      mistakes.push(`must name each protocol once, got ${JSON.stringify(name)} again`);
    } else protocols.push(protocol);
  }
  return mistakes.length > 0 ? { mistakes } : { protocols };
}

function presetOf(name: string): Protocol | undefined {
  const cookie = COOKIE_PRESET.exec(name)?.[1];
  return cookie === undefined ? PRESETS.get(name) : cookieProtocol(cookie);
}

/**
 * What a protocol is: where it keeps its session id, who mints it, what teaches it, what ends it and
 * how a refusal looks. A protocol is data and pure functions; the presets are in `protocols.ts`.
 */
import type { RequestHead } from './heads.ts';
import type { SessionId } from '../session.ts';

/** Where a request may carry an id. `readsHint`: a `~<machine>` at its end may be ours. */
export type IdLocation =
  /** The name is in lower case. */
  | { readonly in: 'header'; readonly name: string; readonly readsHint: boolean }
  | { readonly in: 'query'; readonly name: string; readonly readsHint: boolean }
  | { readonly in: 'cookie'; readonly name: string; readonly readsHint: boolean }
  /** The pattern's first group; matched against the path without the query. With the flag `d`. */
  | { readonly in: 'path'; readonly pattern: RegExp }
  /** In a way of its own. Each request that has one carries this header, whose name is in lower case. */
  | {
      readonly in: 'head';
      readonly header: string;
      readonly read: (head: RequestHead) => IdReading;
    };

/** One name with two different values: nobody can tell which one the app would take. */
export const CONFLICT: unique symbol = Symbol('conflict');

/** The text as it stands there, unescaped, its hint still on it; `undefined` if there is none. */
export type IdReading = string | typeof CONFLICT | undefined;

/** Where an answer reveals an id that the app has minted. */
export type Discovery =
  /** The name is in lower case. What goes out there gets a hint. */
  | { readonly from: 'header'; readonly name: string }
  /** What goes out there gets a hint. */
  | { readonly from: 'set-cookie'; readonly name: string }
  /** The query of the URL in a stream's first event, which is called `endpoint`. It gets a hint. */
  | { readonly from: 'sse-endpoint'; readonly names: readonly string[] }
  | BodyDiscovery
  | MessageDiscovery;

/** A body that is no stream: its beginning is held until it has ended or is longer than 16 KB. */
export interface BodyDiscovery {
  readonly from: 'body';
  /** Whether the answer to this request may teach. It is asked for uncompressed. */
  readonly mayAnswer: (request: RequestHead) => boolean;
  /** In lower case; other types pass unseen. */
  readonly contentTypes: readonly string[];
  /** What the body must begin with; any other passes at once. Tried on one character. */
  readonly begin: RegExp;
  /** The id, if there is one. One character a byte; cut off at 16 KB. Must not throw. */
  readonly read: (body: string) => string | undefined;
}

/** The messages of an event stream: as many of them as begin it and fit into 16 KB. */
export interface MessageDiscovery {
  readonly from: 'sse-message';
  /** Whether the answer to this request may teach. It is asked for uncompressed. */
  readonly mayAnswer: (request: RequestHead) => boolean;
  /** The id in the data of one event, if there is one. One character a byte. Must not throw. */
  readonly read: (data: string) => string | undefined;
}

/** Whose ids these are: `either` if an app may mint them and a client may bring its own. */
export type Minter = 'app' | 'client' | 'either';

export interface Protocol {
  /** As configured: `mcp`, `cookie:sid`. */
  readonly name: string;
  /** In the order in which they are looked at. */
  readonly idLocations: readonly IdLocation[];
  readonly mintedBy: Minter;
  readonly discoveries: readonly Discovery[];
  /** How its clients are told that a session is unknown; see `refuse.ts`. */
  readonly errorForm: ErrorForm;
  /**
   * What ends a session before it expires: a DELETE that the app answers 2xx, a `set-cookie` that
   * expires, or the end of the stream that has taught the id.
   */
  readonly endsBy: 'delete' | 'expiring-cookie' | 'stream-end' | 'expiry';
  /** Has no sessions in a request of MCP revision 2026-07-28 or newer. */
  readonly isMcp: boolean;
}

/**
 * `mcp`, `mcp-task`: a JSON-RPC error; `socket.io`: the error of Engine.IO; `problem`: `application/problem+json`
 * (RFC 9457).
 */
export type ErrorForm = 'mcp' | 'mcp-task' | 'socket.io' | 'problem';

/** What an answer teaches: an id that the app has minted. */
export interface DiscoveredId {
  readonly id: SessionId;
  readonly protocol: Protocol;
}

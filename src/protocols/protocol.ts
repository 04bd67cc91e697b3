/**
 * What a protocol is: where requests carry its session id, who mints it, what reveals it, what ends it and
 * what an unknown session gets. A protocol is data and pure functions; the rows are in `presets.ts`.
 */
import type { RequestHead } from './heads.ts';
import type { SessionId } from '../session.ts';

/** Where a request may carry an id. `mayCarryHint`: a `~<machine>` at its end may be an owner hint. */
export type IdLocation =
  /** The name is in lower case. */
  | { readonly in: 'header'; readonly name: string; readonly mayCarryHint: boolean }
  | { readonly in: 'query'; readonly name: string; readonly mayCarryHint: boolean }
  | { readonly in: 'cookie'; readonly name: string; readonly mayCarryHint: boolean }
  /** The pattern's first group; matched against the path without the query. With the flag `d`. */
  | { readonly in: 'path'; readonly pattern: RegExp }
  /** Read by a function. Each request that has such an id carries this header; its name is in lower case. */
  | {
      readonly in: 'head';
      readonly header: string;
      readonly read: (head: RequestHead) => IdReading;
    };

/** A place in a URL. */
export type UrlIdLocation = IdLocation & { readonly in: 'query' | 'path' };

/** One name with two different values: it is unknown which one the app would use. */
export const CONFLICT: unique symbol = Symbol('conflict');

/**
 * The text at an id location, unescaped, with its hint; `undefined` if there is none. Several: a cookie that was
 * sent more than once, in the order of the request (RFC 6265 §5.4).
 */
export type IdReading = string | readonly string[] | typeof CONFLICT | undefined;

/** Where a response reveals an id that the app has minted. */
export type Discovery =
  /** The name is in lower case. The id goes out with an owner hint, unless it is `isPlain`: no request has one then. */
  | { readonly from: 'header'; readonly name: string; readonly isPlain?: true }
  /** The id goes out with an owner hint. */
  | { readonly from: 'set-cookie'; readonly name: string }
  /** The URL of a `Location`, in the same place as in a request. The id goes out as it is. */
  | { readonly from: 'location'; readonly idLocation: UrlIdLocation }
  /**
   * The URL in a stream's first event of the name `endpoint`. A new id in its query, under the first of the names
   * that is there, goes out with an owner hint; to any other URL of our own origin the sidecar adds its own
   * parameter (`own-parameter.ts`).
   */
  | { readonly from: 'sse-endpoint'; readonly names: readonly string[] }
  | BodyDiscovery
  | MessageDiscovery;

/** A body that is no stream: its beginning is held until it has ended or is longer than 16 KB. */
export interface BodyDiscovery {
  readonly from: 'body';
  /** Whether the response to this request may reveal an id. The sidecar then requests it uncompressed. */
  readonly mayRevealId: (request: RequestHead) => boolean;
  /** In lower case; bodies of other types are not inspected. */
  readonly contentTypes: readonly string[];
  /** What the body must begin with; any other passes at once. Tested on one character. */
  readonly begin: RegExp;
  /** The id, if there is one. One character a byte; cut off at 16 KB. Must not throw. */
  readonly read: (body: string) => string | undefined;
}

/** The messages of an event stream: as many of them as begin it and fit into 16 KB. */
export interface MessageDiscovery {
  readonly from: 'sse-message';
  /** Whether the response to this request may reveal an id. The sidecar then requests it uncompressed. */
  readonly mayRevealId: (request: RequestHead) => boolean;
  /** The id in the data of one event, if there is one. One character a byte. Must not throw. */
  readonly read: (data: string) => string | undefined;
}

/** Who mints the ids: `either` if the app may mint them and a client may bring its own. */
export type Minter = 'app' | 'client' | 'either';

export interface Protocol {
  /** As configured: `mcp`, `cookie:sid`. */
  readonly name: string;
  /** In the order in which they are read. */
  readonly idLocations: readonly IdLocation[];
  readonly mintedBy: Minter;
  readonly discoveries: readonly Discovery[];
  /** The error response for an unknown session; see `error-responses.ts`. */
  readonly errorForm: ErrorForm;
  /**
   * What ends a session before it expires: a DELETE with a 2xx response of the app, a `set-cookie` that
   * expires, or the end of the stream that has revealed the id.
   */
  readonly endsBy: 'delete' | 'expiring-cookie' | 'stream-end' | 'expiry';
  /**
   * Another Machine may serve a session whose owner is gone, or that nobody knows: its app may keep sessions
   * elsewhere, and a 404 of it is a page that is not there.
   */
  readonly isSoft?: true;
  /** A request of MCP revision 2026-07-28 or newer has no such session. */
  readonly isMcp: boolean;
}

/**
 * `mcp`, `mcp-task`: a JSON-RPC error; `socket.io`: the error of Engine.IO; `problem`: `application/problem+json`
 * (RFC 9457).
 */
export type ErrorForm = 'mcp' | 'mcp-task' | 'socket.io' | 'problem';

/** An id that the app has minted and a response reveals. */
export interface DiscoveredId {
  readonly id: SessionId;
  readonly protocol: Protocol;
}

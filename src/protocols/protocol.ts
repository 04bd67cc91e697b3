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
  | QueryIdLocation
  | { readonly in: 'cookie'; readonly name: string; readonly mayCarryHint: boolean }
  | PathIdLocation
  /**
   * Read by a function. Each request that has such an id carries this header; its name is in lower case.
   * `inPath`: where the id is in a path, for the mask of the log. With the flag `d`.
   */
  | {
      readonly in: 'head';
      readonly header: string;
      readonly read: (head: RequestHead) => IdReading;
      readonly inPath?: RegExp;
    }
  /** The same of a request that opens a WebSocket. */
  | {
      readonly in: 'websocket';
      readonly read: (head: RequestHead) => IdReading;
      readonly inPath?: RegExp;
    }
  /** In a JSON body with a length of up to 64 KB (RFC 6901). `when`: whether the request has one. */
  | {
      readonly in: 'body';
      readonly pointer: readonly string[];
      readonly when?: (head: RequestHead) => boolean;
    };

/** `when`: whether the parameter is an id at all, by the shape of the request. */
interface QueryIdLocation {
  readonly in: 'query';
  readonly name: string;
  readonly mayCarryHint: boolean;
  readonly when?: (head: RequestHead) => boolean;
}

/**
 * The pattern's first group; matched against the path without the query. With the flag `d`. `mark`: a text that
 * each such path contains, as a quick check.
 */
interface PathIdLocation {
  readonly in: 'path';
  readonly pattern: RegExp;
  readonly mark?: string;
}

/** A place in a URL. */
export type UrlIdLocation = QueryIdLocation | PathIdLocation;

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
  /** The id goes out with an owner hint, unless it is `isPlain`: the app would not know it with one. */
  | { readonly from: 'set-cookie'; readonly name: string; readonly isPlain?: true }
  | LocationDiscovery
  /**
   * The URL in a stream's first event of the name `endpoint`. A new id in its query, under the first of the names
   * that is there, goes out with an owner hint; to any other URL of our own origin the sidecar adds its own
   * parameter (`own-parameter.ts`).
   */
  | { readonly from: 'sse-endpoint'; readonly names: readonly string[] }
  | BodyDiscovery
  | MessageDiscovery;

/**
 * The URL of a `Location`, in the same place as in a request: the id goes out as it is. Without a place: the
 * sidecar adds its own parameter to a URL of our own origin, whose value begins with `prefix`.
 */
interface LocationDiscovery {
  readonly from: 'location';
  readonly idLocation: UrlIdLocation | { readonly prefix: string };
  /** Whether the response to this request may reveal an id; without it, any may. */
  readonly mayRevealId?: (request: RequestHead) => boolean;
  /** Only of a 201: a redirect creates nothing. */
  readonly isOfCreation?: true;
}

/** One or more ids, or none. */
export type Revealed = string | readonly string[] | undefined;

/** A body that is no stream: its beginning is held until it has ended, its JSON is whole, or it is longer than 16 KB. */
export interface BodyDiscovery {
  readonly from: 'body';
  /** A text that the target of each such request contains, as a quick check. */
  readonly mark?: string;
  /** Whether the response to this request may reveal an id. The sidecar then requests it uncompressed. */
  readonly mayRevealId: (request: RequestHead) => boolean;
  /** Also where the request carries an id of the protocol itself: a session begins others. */
  readonly withinSession?: true;
  /** Bodies of other media types are not inspected. */
  readonly contentType: RegExp;
  /** What the body must begin with; any other passes at once. Tested on one character. */
  readonly begin: RegExp;
  /** One character a byte; cut off at 16 KB. Must not throw. */
  readonly read: (body: string) => Revealed;
}

/** The messages of an event stream: as many of them as begin it and fit into 16 KB. */
export interface MessageDiscovery {
  readonly from: 'sse-message';
  /** A text that the target of each such request contains, as a quick check. */
  readonly mark?: string;
  /** Whether the response to this request may reveal an id. The sidecar then requests it uncompressed. */
  readonly mayRevealId: (request: RequestHead) => boolean;
  /** Also where the request carries an id of the protocol itself: a session begins others. */
  readonly withinSession?: true;
  /**
   * A quick check of the beginning of a stream: whether one of the events in it may have an id. One character a byte.
   * Must not throw.
   */
  readonly mayHold: (text: string) => boolean;
  /** Of the data of one event. One character a byte. Must not throw. */
  readonly read: (data: string) => Revealed;
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
  /** With `endsBy: 'delete'`, which DELETEs end it; without it, each with its id. */
  readonly isEnd?: (request: RequestHead) => boolean;
  /**
   * Another Machine may serve a session whose owner is gone, or that nobody knows: its app may keep sessions
   * elsewhere, and a 404 of it is a page that is not there.
   */
  readonly isSoft?: true;
  /**
   * Nobody has listed the protocol: two different ids under one of its names are the app's own, and count as none.
   */
  readonly isOfAuto?: true;
  /** Other apps may have the same shape (`auto`): an id that nobody knows is for the app to judge. */
  readonly isGuess?: true;
  /**
   * Session cookies of the app that bind nothing, as many apps keep these sessions elsewhere: the affinity cookie
   * is set beside them.
   */
  readonly recognizedCookies?: readonly string[];
  /** A request of MCP revision 2026-07-28 or newer has no such session. */
  readonly isMcp: boolean;
}

/**
 * `mcp`, `mcp-task`: a JSON-RPC error; `socket.io`: the error of Engine.IO; `webdriver`: the error of W3C's
 * WebDriver; `problem`: `application/problem+json` (RFC 9457).
 */
type ErrorForm = 'mcp' | 'mcp-task' | 'socket.io' | 'webdriver' | 'problem';

/** An id that the app has minted and a response reveals. */
export interface DiscoveredId {
  readonly id: SessionId;
  readonly protocol: Protocol;
}

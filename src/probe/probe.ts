/**
 * What a probe is: a small client of one protocol, which opens sessions in an app over HTTP, makes calls in them,
 * and tells whether the app still had the session. It needs nothing but the URL of the app.
 */
import type { Exchange, ProbeClient } from './http-client.ts';

export interface Probe {
  /** The name of its preset; undefined for a request of the user's own. */
  readonly preset: string | undefined;
  /** Where it tries to open a session, such as `POST /mcp`. For people. */
  readonly where: string;
  /** Opens one session. Never rejects. */
  open(client: ProbeClient): Promise<Opening>;
}

export type Opening =
  | { readonly kind: 'opened'; readonly session: ProbeSession }
  /** The app speaks the protocol and keeps no session in it. `what`: how that is known, a sentence. */
  | { readonly kind: 'stateless'; readonly what: string }
  /** The app speaks the protocol, but gave no session. `why`: a sentence. */
  | { readonly kind: 'refused'; readonly why: string; readonly exchange: Exchange }
  /** The app takes a WebSocket there, and nothing else is known of it. */
  | { readonly kind: 'websocket'; readonly path: string }
  /** The app speaks another protocol here. */
  | { readonly kind: 'other'; readonly exchange: Exchange };

export type NotOpened = Exclude<Opening, { readonly kind: 'opened' }>;

export interface ProbeSession {
  /** The beginning of the session's key: its id is a credential, and never shown. */
  readonly key: string;
  /** The exchange that opened it. */
  readonly opened: Exchange;
  /** Makes one call on a new connection. One at a time; never rejects. */
  call(): Promise<Call>;
  /** Ends the session, also in the app if the protocol can. Never rejects. */
  close(): Promise<void>;
}

export interface Call {
  readonly exchange: Exchange;
  /** Undefined: the app had the session. */
  readonly loss: Loss | undefined;
}

/** How a client was told that its session is lost. */
export interface Loss {
  readonly how: LossKind;
  /** For people: status and message of the app, on one line, without the session id. */
  readonly why: string;
}

/**
 * `unknown-session`: as the protocol demands, so that clients open a new session. `new-session`: a new session
 * took the place of the old one, and the client was not told. `unavailable`: 502, 503 or 504. `error`: any other
 * error. `no-response`: none came in time, or the connection failed.
 */
export type LossKind = 'unknown-session' | 'new-session' | 'unavailable' | 'error' | 'no-response';

/**
 * The vocabulary: what a session, its id, its key and its owner are. Branded, so that only the
 * parsers of this file make them and an unchecked string cannot travel.
 */
import { hash } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/**
 * What client and app exchange, one character a byte: as long as a head may be, without control characters. A
 * credential: never stored or logged.
 */
export type SessionId = Branded<string, 'SessionId'>;

/** First 128 bits of the SHA-256 of a session id, as 32 hex digits: all that is stored, logged or sent to a peer. */
export type SessionKey = Branded<string, 'SessionKey'>;

/** `FLY_MACHINE_ID`: `[a-z0-9]{1,32}`. */
export type MachineId = Branded<string, 'MachineId'>;

/**
 * How a binding came about: *learned* (the app minted the id in a response), *adopted* (the client
 * sent the id and the app accepted it) or *copied* (reported by its owner).
 */
export type BindingOrigin = 'learned' | 'adopted' | 'copied';

/** Session key -> owner. */
export interface Binding {
  readonly key: SessionKey;
  readonly machine: MachineId;
  readonly origin: BindingOrigin;
  /** Raised by one with every change of owner, from 1. */
  readonly generation: number;
  /** ms since the epoch. */
  readonly createdAt: number;
  /** ms since the epoch; from then on the binding counts as absent. */
  readonly expiresAt: number;
}

/** The default limit of a request head: a longer id can't come back. */
export const MAX_SESSION_ID_BYTES = 32_768;
const KEY_HEX_DIGITS = 32;

/** Or text beyond the bytes. */
const CONTROL_CHARACTER = /[^\x20-\x7e\x80-\xff]/;
const MACHINE_ID = /^[a-z0-9]{1,32}$/;
const SESSION_KEY = /^[0-9a-f]{32}$/;

export function parseSessionId(text: string): SessionId | undefined {
  if (text.length === 0 || text.length > MAX_SESSION_ID_BYTES) return undefined;
  return CONTROL_CHARACTER.test(text) ? undefined : (text as SessionId);
}

/** Reads an id that a person has typed, or that stood in JSON: as UTF-8, which is what apps and clients write. */
export function parseTypedSessionId(text: string): SessionId | undefined {
  return parseSessionId(Buffer.from(text, 'utf8').toString('latin1'));
}

export function parseMachineId(text: string): MachineId | undefined {
  return MACHINE_ID.test(text) ? (text as MachineId) : undefined;
}

/** Reads a key that came from a store or a peer. */
export function parseSessionKey(text: string): SessionKey | undefined {
  return SESSION_KEY.test(text) ? (text as SessionKey) : undefined;
}

/**
 * One key for all ways to write an id: a form writes a space as `+` in a query (URL standard,
 * "urlencoded serializing"), other clients write `%20`, and a `+` may also stand for itself.
 */
export function sessionKeyOf(id: SessionId): SessionKey {
  const text = id.includes(' ') ? id.replaceAll(' ', '+') : id;
  return hash('sha256', Buffer.from(text, 'latin1'), 'hex').slice(0, KEY_HEX_DIGITS) as SessionKey;
}

/**
 * A copy that does not keep its source in memory. In V8 a slice of 13 characters or more refers to the
 * string that it was cut from: an id to the whole head, a key to the whole hash. For what is cached.
 */
export function detachedCopy<Text extends string>(text: Text): Text {
  return Buffer.from(text, 'latin1').toString('latin1') as Text;
}

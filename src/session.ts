/**
 * The vocabulary: what a session, its id, its key and its owner are. Branded, so that only the
 * parsers of this file make them and an unchecked string cannot travel.
 */
import { hash } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** What client and app exchange: 1 to 512 bytes of visible ASCII. A credential: never stored or logged. */
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

export const MAX_SESSION_ID_BYTES = 512;
const KEY_HEX_DIGITS = 32;

/** One character outside the visible ASCII of a session id (MCP 2025-11-25, "Session Management"). */
const NOT_VISIBLE_ASCII = /[^\x21-\x7e]/;
const MACHINE_ID = /^[a-z0-9]{1,32}$/;
const SESSION_KEY = /^[0-9a-f]{32}$/;

export function parseSessionId(text: string): SessionId | undefined {
  if (text.length === 0 || text.length > MAX_SESSION_ID_BYTES) return undefined;
  return NOT_VISIBLE_ASCII.test(text) ? undefined : (text as SessionId);
}

export function parseMachineId(text: string): MachineId | undefined {
  return MACHINE_ID.test(text) ? (text as MachineId) : undefined;
}

/** Reads a key that came from a store or a peer. */
export function parseSessionKey(text: string): SessionKey | undefined {
  return SESSION_KEY.test(text) ? (text as SessionKey) : undefined;
}

export function sessionKeyOf(id: SessionId): SessionKey {
  return hash('sha256', id, 'hex').slice(0, KEY_HEX_DIGITS) as SessionKey;
}

/**
 * A copy that does not keep its source in memory. In V8 a slice of 13 characters or more refers to the
 * string that it was cut from: an id to the whole head, a key to the whole hash. For what is cached.
 */
export function detachedCopy<Text extends string>(text: Text): Text {
  return Buffer.from(text, 'latin1').toString('latin1') as Text;
}

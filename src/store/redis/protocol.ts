/**
 * What goes to the server and what it returns, as text: keys, the arguments of the scripts, bindings. Times leave the
 * server as durations.
 */
import {
  type Binding,
  type SessionKey,
  parseMachineId,
  parseSessionKey,
  type BindingOrigin,
} from '../../session.ts';
import { type Write, wholeTtlMs, type Outcome } from '../rules.ts';
import { StoreError, type StoreLimits, adoptedCap, EVICTION_ORDER } from '../store.ts';

export interface RedisKeys {
  /** The prefix of a session key. */
  readonly prefix: string;
  /** The sorted sets, in the order of eviction. */
  readonly indexes: readonly string[];
}

/** The braces make a cluster keep all keys together; braces in the namespace itself are escaped. */
export function keysIn(namespace: string): RedisKeys {
  const prefix = `fly-affinity:{${encodeURIComponent(namespace)}}:`;
  return { prefix, indexes: EVICTION_ORDER.map((origin) => `${prefix}${origin}`) };
}

/** In the order of the scripts' arguments, after the time. */
export function limitArguments({ maxSessions }: StoreLimits): string[] {
  return [String(maxSessions), String(adoptedCap(maxSessions))];
}

/** The arguments of the script WRITE, from the kind on. */
export function writeArguments(write: Write): string[] {
  const { kind, now } = write;
  switch (kind) {
    case 'claim':
      return [kind, ttlOf(write), write.machine, write.origin];
    case 'upsert': {
      const age = wholeAge(now - (write.createdAt ?? now), now);
      const generation = wholeGeneration(write.generation);
      return [kind, ttlOf(write), write.machine, write.origin, generation, age];
    }
    case 'rebind':
      return [kind, ttlOf(write), write.to, write.origin, '', '', write.from];
    case 'touch':
    case 'expireWithin':
      return [kind, ttlOf(write)];
    case 'delete':
      return [kind, '0', write.ifMachine ?? ''];
  }
}

function ttlOf({ ttlMs }: { readonly ttlMs: number }): string {
  return String(wholeTtlMs(ttlMs));
}

/** Clamps to the range between the epoch and now. */
function wholeAge(ageMs: number, now: number): string {
  return String(ageMs > 0 ? Math.min(Math.ceil(ageMs), now) : 0);
}

function wholeGeneration(generation: number): string {
  if (Number.isSafeInteger(generation) && generation >= 0) return String(generation);
  throw new StoreError('fatal', `a generation must be a whole number, got ${generation}`);
}

/** The response of the script WRITE: `1` or `0`, then the current binding. */
export function parseOutcome(key: SessionKey, reply: string, now: number): Outcome {
  const after = reply.slice('1 '.length);
  return {
    after: after === '' ? undefined : parseBinding(key, after, now),
    hasTakenEffect: reply.startsWith('1'),
  };
}

const SESSION_KEY_LENGTH = 32;
const ORIGINS: ReadonlySet<string> = new Set(EVICTION_ORDER);

/** The response of the script PAGE for each binding: its session key before it. */
export function parseRow(row: string, now: number): Binding {
  const key = parseSessionKey(row.slice(0, SESSION_KEY_LENGTH));
  if (key === undefined) throw unreadable();
  return parseBinding(key, row.slice(SESSION_KEY_LENGTH + 1), now);
}

/** As the scripts read it: see BINDING in scripts.ts. */
const STORED = /^([a-z]+) (\d+) (-?\d+) (\d+) ([a-z0-9]+)/;

/**
 * A stored binding, in times of the server. An invalid binding counts as absent, as in the scripts.
 */
export function parseStored(
  key: SessionKey,
  text: string,
  serverNow: number,
  now: number,
): Binding | 'absent' {
  const [, origin = '', generation, createdAt, expiresAt, machine = ''] = STORED.exec(text) ?? [];
  const owner = parseMachineId(machine);
  const remainingMs = Number(expiresAt) - serverNow;
  if (owner === undefined || !ORIGINS.has(origin) || !(remainingMs > 0)) return 'absent';
  return {
    key,
    machine: owner,
    origin: origin as BindingOrigin,
    generation: Number(generation),
    createdAt: now - Math.max(0, serverNow - Number(createdAt)),
    expiresAt: now + remainingMs,
  };
}

/** `TIME` returns seconds and µs. */
export function serverMs(time: unknown): number {
  const [seconds, micros] = Array.isArray(time) ? (time as unknown[]) : [];
  return Number(seconds) * 1_000 + Number(micros) / 1_000;
}

/** The server sends age and time left; this process's clock turns them into times. */
function parseBinding(key: SessionKey, text: string, now: number): Binding {
  const [origin = '', generation, ageMs, remainingMs, machine] = text.split(' ');
  const owner = parseMachineId(machine ?? '');
  if (owner === undefined || !ORIGINS.has(origin)) throw unreadable();
  return {
    key,
    machine: owner,
    origin: origin as BindingOrigin,
    generation: Number(generation),
    createdAt: now - Math.max(0, Number(ageMs)),
    expiresAt: now + Number(remainingMs),
  };
}

function unreadable(): StoreError {
  return new StoreError(
    'fatal',
    'the Redis store holds an invalid binding; check that no other program writes to its keys',
  );
}

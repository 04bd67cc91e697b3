/**
 * What sidecars say to each other on the peer listener, as JSON, checked by hand on both sides.
 *
 * ```
 * POST /v1/ask       {from, questions: [{key, claim?}]}  ->  {machine, answers: {<key>: claim | "no" | "unknown"}}
 * POST /v1/announce  {from, bindings: [{key, claim}]} ->  {machine, answers: {<key>: claim | "unknown"}}
 * POST /v1/bindings  see `bindings-messages.ts`
 * POST /v1/status    {from, status}                   ->  {machine, status}
 * claim              {generation, origin, createdAt, ttlMs, isPending?}
 * status             {version, takesSessions, region?}
 * ```
 * A claim is always about its sender: there is no way to say what a third Machine owns. The answer
 * to an announcement names the keys that the announcer has lost, with the claims that outrank its own,
 * and those that have to be announced again, as the peer's store can't tell now whether it has them too.
 * A status is the heartbeat between two sidecars. A version without it answers 404, so it has told no
 * version.
 */
import {
  parseMachineId,
  parseSessionKey,
  type Binding,
  type MachineId,
  type SessionKey,
} from '../session.ts';

export const ASK_PATH = '/v1/ask';
export const ANNOUNCE_PATH = '/v1/announce';
export const STATUS_PATH = '/v1/status';

/** Told in each status: from this version on replays are marked and new sessions placed. */
export const PROTOCOL_VERSION = 2;

/** Keys in one message at most. */
export const MAX_KEYS = 256;

/** Bytes of one message at most; 256 keys with their claims take half of it. */
export const MAX_MESSAGE_BYTES = 65_536;

/** Longest time to live that is believed, in ms: a year. Longer ones are cut when sent. */
export const MAX_TTL_MS = 366 * 24 * 3_600_000;

/** No session changes its owner so often: beyond it a generation is refused, as it could not be raised. */
export const MAX_GENERATION = 2 ** 40;

/** What a Machine says of its own binding. */
export interface Claim {
  readonly generation: number;
  readonly origin: 'learned' | 'adopted';
  /** By the claimant's clock, ms since the epoch. */
  readonly createdAt: number;
  /** Time to live left, in ms. */
  readonly ttlMs: number;
  /** A request of that session is being served, and its app has not accepted it yet. */
  readonly isPending?: true;
}

/** What a Machine says of itself. */
export interface PeerStatus {
  readonly version: number;
  /** Not while it drains, is full, or its app is down. */
  readonly takesSessions: boolean;
  readonly region: string | undefined;
}

export interface StatusMessage {
  readonly from: MachineId;
  readonly status: PeerStatus;
}

export interface KeyQuery {
  readonly key: SessionKey;
  /** The asker's own claim to the key, if it has one. */
  readonly claim?: Claim;
}

export interface AskMessage {
  readonly from: MachineId;
  readonly questions: readonly KeyQuery[];
}

export interface AnnounceMessage {
  readonly from: MachineId;
  readonly bindings: readonly Required<KeyQuery>[];
}

/** A claim: the answering Machine owns the key. `unknown`: it can't tell (starting, degraded). */
export type KeyResponse = Claim | 'no' | 'unknown';

export interface ResponseMessage {
  readonly machine: MachineId;
  readonly answers: ReadonlyMap<SessionKey, KeyResponse>;
}

/** The claim of a Machine to a binding of its own, with the time to live left. */
export function claimOf(binding: Binding, ttlMs: number): Claim {
  const { generation, createdAt } = binding;
  const origin = binding.origin === 'learned' ? 'learned' : 'adopted';
  return {
    generation,
    origin,
    createdAt,
    ttlMs: Math.min(Math.max(Math.ceil(ttlMs), 1), MAX_TTL_MS),
  };
}

export function formatAsk({ from, questions }: AskMessage): string {
  return JSON.stringify({ from, questions });
}

export function formatAnnounce({ from, bindings }: AnnounceMessage): string {
  return JSON.stringify({ from, bindings });
}

export function formatResponse({ machine, answers }: ResponseMessage): string {
  return JSON.stringify({ machine, answers: Object.fromEntries(answers) });
}

export function formatStatus({ from, status }: StatusMessage): string {
  return JSON.stringify({ from, status });
}

export function formatStatusResponse(machine: MachineId, status: PeerStatus): string {
  return JSON.stringify({ machine, status });
}

/** All parsers: undefined for anything that isn't wholly as it should be. */
export function parseAsk(text: string): AskMessage | undefined {
  const message = parseRecord(text);
  const from = machineIn(message?.from);
  const questions = listOf(message?.questions, questionIn);
  return from && questions ? { from, questions } : undefined;
}

export function parseAnnounce(text: string): AnnounceMessage | undefined {
  const message = parseRecord(text);
  const from = machineIn(message?.from);
  const bindings = listOf(message?.bindings, bindingIn);
  return from && bindings ? { from, bindings } : undefined;
}

export function parseResponse(text: string): ResponseMessage | undefined {
  const message = parseRecord(text);
  const machine = machineIn(message?.machine);
  const answers = message?.answers;
  if (!machine || !isRecord(answers)) return undefined;
  const entries = listOf(Object.entries(answers), answerIn);
  return entries && { machine, answers: new Map(entries) };
}

export function parseStatus(text: string): StatusMessage | undefined {
  const message = parseRecord(text);
  const from = machineIn(message?.from);
  const status = statusIn(message?.status);
  return from && status ? { from, status } : undefined;
}

export function parseStatusResponse(
  text: string,
): { readonly machine: MachineId; readonly status: PeerStatus } | undefined {
  const message = parseRecord(text);
  const machine = machineIn(message?.machine);
  const status = statusIn(message?.status);
  return machine && status ? { machine, status } : undefined;
}

function statusIn(value: unknown): PeerStatus | undefined {
  if (!isRecord(value)) return undefined;
  const { version, takesSessions, region } = value;
  if (!isWhole(version) || version < 1 || typeof takesSessions !== 'boolean') return undefined;
  if (region !== undefined && !(typeof region === 'string' && REGION.test(region)))
    return undefined;
  return { version, takesSessions, region };
}

const REGION = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;

function questionIn(value: unknown): KeyQuery | undefined {
  if (!isRecord(value)) return undefined;
  const key = keyIn(value.key);
  if (!key || value.claim === undefined) return key && { key };
  const claim = claimIn(value.claim);
  return claim && { key, claim };
}

function bindingIn(value: unknown): Required<KeyQuery> | undefined {
  const { key, claim } = questionIn(value) ?? {};
  return key && claim && { key, claim };
}

function answerIn(entry: unknown): readonly [SessionKey, KeyResponse] | undefined {
  const [text, value] = entry as [string, unknown];
  const key = keyIn(text);
  const answer = value === 'no' || value === 'unknown' ? value : claimIn(value);
  return key && answer && [key, answer];
}

function claimIn(value: unknown): Claim | undefined {
  if (!isRecord(value)) return undefined;
  const { generation, origin, createdAt, ttlMs, isPending } = value;
  if (origin !== 'learned' && origin !== 'adopted') return undefined;
  if (!isGeneration(generation) || !isWhole(createdAt)) return undefined;
  if (!isWhole(ttlMs) || ttlMs < 1 || ttlMs > MAX_TTL_MS) return undefined;
  const claim = { generation, origin, createdAt, ttlMs } as const;
  return isPending === true ? { ...claim, isPending } : claim;
}

export function keyIn(value: unknown): SessionKey | undefined {
  return typeof value === 'string' ? parseSessionKey(value) : undefined;
}

export function machineIn(value: unknown): MachineId | undefined {
  return typeof value === 'string' ? parseMachineId(value) : undefined;
}

/** A list within the bound whose members are all well-formed. */
export function listOf<One>(
  value: unknown,
  parse: (one: unknown) => One | undefined,
): One[] | undefined {
  if (!Array.isArray(value) || value.length > MAX_KEYS) return undefined;
  const parsed = value.map(parse);
  return parsed.every((one) => one !== undefined) ? parsed : undefined;
}

export function parseRecord(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    // Whoever sent this gets told, or counts as silent; there is nothing more to know about it.
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isGeneration(value: unknown): value is number {
  return isWhole(value) && value >= 1 && value <= MAX_GENERATION;
}

export function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * The messages between sidecars on the peer listener, as JSON:
 *
 * ```
 * POST /v1/ask       {from, questions: [{key, claim?}]}  ->  {machine, answers: {<key>: claim | "no" | "unknown"}}
 * POST /v1/announce  {from, bindings: [{key, claim}]}    ->  {machine, answers: {<key>: claim | "unknown"}}
 * POST /v1/status    {from, status}                      ->  {machine, status}
 * POST /v1/bindings  see `join/reader.ts`
 * claim              {generation, origin, createdAt, ttlMs, isPending?}
 * status             {version, takesSessions, region?, isAsleep?, sleepers?}
 * ```
 * A claim is always about its sender: no message reports what a third Machine owns. `sleepers` are other
 * Machines that have told the sender that they sleep, for those that missed it. The response to an
 * announcement has the claims that outrank the sender's own. `unknown` there means that the store can't
 * tell now and the sender repeats the announcement.
 *
 * Unknown fields are ignored, so sidecars of two versions understand each other. A version without
 * status messages responds 404 to them.
 */
import * as v from 'valibot';
import { parseJson } from '../json.ts';
import { MachineIdSchema, SessionKeySchema } from '../schemas.ts';
import type { MachineId, SessionKey } from '../session.ts';

export const ASK_PATH = '/v1/ask';
export const ANNOUNCE_PATH = '/v1/announce';
export const STATUS_PATH = '/v1/status';

/** Sent in each status. Sidecars of this version and later mark replays and place new sessions. */
export const PROTOCOL_VERSION = 2;

/** Most keys in one message. */
export const MAX_KEYS = 256;

/** Most bytes of one message; 256 keys with their claims take half of it. */
export const MAX_MESSAGE_BYTES = 65_536;

/** The maximum time to live, in ms: a year. The sender truncates longer ones. */
export const MAX_TTL_MS = 366 * 24 * 3_600_000;

/** More changes of owner than any session has. A higher generation is rejected, as it could not be raised. */
const MAX_GENERATION = 2 ** 40;

const WholeSchema = v.custom<number>(isWhole);

const ClaimSchema = v.object({
  generation: v.custom<number>(isGeneration),
  origin: v.picklist(['learned', 'adopted']),
  /** By the clock of the claimant, in ms since the epoch. */
  createdAt: WholeSchema,
  /** Time to live left. */
  ttlMs: v.custom<number>((value) => isTtl(value, MAX_TTL_MS)),
  /** A request of the session is in flight and the app has not accepted it yet. */
  isPending: v.exactOptional(v.fallback(v.optional(v.literal(true)), undefined)),
});

/** What a Machine reports about its own binding. */
export type Claim = Readonly<v.InferOutput<typeof ClaimSchema>>;

const StatusSchema = v.object({
  version: v.pipe(WholeSchema, v.minValue(1)),
  /** False while the Machine drains, is full, or its app is down. */
  takesSessions: v.boolean(),
  region: v.optional(
    v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/)),
    () => undefined,
  ),
  /** From when it prepares to be suspended until it has woken. A replay wakes it. */
  isAsleep: v.exactOptional(v.fallback(v.optional(v.literal(true)), undefined)),
  sleepers: v.exactOptional(v.fallback(v.optional(keysOf(MachineIdSchema)), undefined)),
});

/** What a Machine reports about itself. */
export type PeerStatus = Readonly<v.InferOutput<typeof StatusSchema>>;

const KeyResponseSchema = v.union([v.picklist(['no', 'unknown']), ClaimSchema]);

/** A claim: the responding Machine owns the key. `unknown`: its store can't tell (starting, degraded). */
export type KeyResponse = 'no' | 'unknown' | Claim;

function keysOf<const Item extends v.GenericSchema>(item: Item) {
  return v.pipe(v.array(item), v.maxLength(MAX_KEYS));
}

const AskSchema = v.object({
  from: MachineIdSchema,
  /** The sender's own claim, if it has one. */
  questions: keysOf(v.object({ key: SessionKeySchema, claim: v.exactOptional(ClaimSchema) })),
});

const AnnounceSchema = v.object({
  from: MachineIdSchema,
  bindings: keysOf(v.object({ key: SessionKeySchema, claim: ClaimSchema })),
});

const ResponseSchema = v.object({
  machine: MachineIdSchema,
  answers: v.pipe(
    v.custom<object>((value) => !Array.isArray(value)),
    v.record(SessionKeySchema, KeyResponseSchema),
    v.maxEntries(MAX_KEYS),
    v.transform((answers) => new Map(Object.entries(answers) as [SessionKey, KeyResponse][])),
  ),
});

const StatusMessageSchema = v.object({ from: MachineIdSchema, status: StatusSchema });
const StatusResponseSchema = v.object({ machine: MachineIdSchema, status: StatusSchema });

type AskMessage = v.InferOutput<typeof AskSchema>;
type AnnounceMessage = v.InferOutput<typeof AnnounceSchema>;
type StatusMessage = v.InferOutput<typeof StatusMessageSchema>;
type StatusResponse = v.InferOutput<typeof StatusResponseSchema>;
interface ResponseMessage {
  readonly machine: MachineId;
  readonly answers: ReadonlyMap<SessionKey, KeyResponse>;
}

/** Each returns undefined for text that does not match its schema. */
export const parseAsk = parserOf(AskSchema);
export const parseAnnounce = parserOf(AnnounceSchema);
export const parseStatus = parserOf(StatusMessageSchema);
export const parseResponse = parserOf(ResponseSchema);
export const parseStatusResponse = parserOf(StatusResponseSchema);

export function parserOf<const Schema extends v.GenericSchema>(
  schema: Schema,
): (text: string) => v.InferOutput<Schema> | undefined {
  return (text) => {
    // No schema accepts undefined, so the sender gets 400, or counts as unresponsive.
    const parsed = v.safeParse(schema, parseJson(text), { abortEarly: true });
    return parsed.success ? parsed.output : undefined;
  };
}

export const formatAsk: (message: AskMessage) => string = JSON.stringify;
export const formatAnnounce: (message: AnnounceMessage) => string = JSON.stringify;
export const formatStatus: (message: StatusMessage) => string = JSON.stringify;
export const formatStatusResponse: (message: StatusResponse) => string = JSON.stringify;

export function formatResponse({ machine, answers }: ResponseMessage): string {
  return JSON.stringify({ machine, answers: Object.fromEntries(answers) });
}

export function isGeneration(value: unknown): value is number {
  return isWhole(value) && value >= 1 && value <= MAX_GENERATION;
}

export function isTtl(value: unknown, maxMs: number): value is number {
  return isWhole(value) && value >= 1 && value <= maxMs;
}

export function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

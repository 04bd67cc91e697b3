/** Reads the bindings of one peer to the end, page by page, and stores each page. */
import { type MachineId, parseSessionKey, type SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { StoreError, PAGE_BINDINGS, ROW_FIELDS, type PeerPage } from '../../store/store.ts';
import { PeerStatusError, type PeerClient } from '../peer-client.ts';
import * as v from 'valibot';
import { MAX_PAGE_TTL_MS } from '../../store/peer-pages.ts';
import { isGeneration, isTtl, isWhole, parserOf } from '../messages.ts';
import { MachineIdSchema } from '../../schemas.ts';
import { messageOf } from '../../errors.ts';

/** From the start of a page to the start of the next, in ms: a million bindings in about a minute. */
const PAGE_MS = 60;
const PAGE_TIMEOUT_MS = 10_000;
/** Reading a peer ends after this many failures in total. */
const MAX_TRIES = 3;
const RETRY_MS = 2_000;
const BUSY_MS = 250;
const MAX_BUSY = 1_200;
/** More than ten million bindings: the peer sends the same pages again and again. */
const MAX_PAGES = 10_000;

/**
 * - `read`: to the end.
 * - `full`: until no more fits.
 * - `unsupported`: the version of the peer has no such messages.
 * - `stopped`: this Machine stops.
 */
export type ReadOutcome =
  | { readonly kind: 'read' | 'full' | 'unsupported' | 'stopped' }
  | { readonly kind: 'failed'; readonly reason: string };

interface BindingsReaderOptions {
  readonly self: MachineId;
  readonly peer: MachineId;
  readonly of: BindingsScope;
  readonly client: Pick<PeerClient, 'post'>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Rejects if the store can't write now. */
  readonly importPage: (page: BindingsPage) => Promise<'imported' | 'full'>;
}

/** Never rejects. Requests a page again from the same cursor until it is imported. */
export async function readBindings(options: BindingsReaderOptions): Promise<ReadOutcome> {
  const { clock, signal, importPage } = options;
  let after: string | undefined;
  let tries = 0;
  let busy = 0;
  for (let pages = 0; pages < MAX_PAGES && !signal.aborted;) {
    const startedAtMs = clock.monotonicMs();
    try {
      const page = await fetchPage(options, after);
      if ((await importPage(page)) === 'full') return { kind: 'full' };
      if (page.next === undefined) return { kind: 'read' };
      after = page.next;
      pages += 1;
      busy = 0;
      await clock.sleep(Math.max(startedAtMs + PAGE_MS - clock.monotonicMs(), 0), signal);
    } catch (error) {
      const status = error instanceof PeerStatusError ? error.status : undefined;
      if (status === 404) return { kind: 'unsupported' };
      const isBusy = isTemporary(error) && (busy += 1) <= MAX_BUSY;
      if (!isBusy && (tries += 1) >= MAX_TRIES) return failed(error, signal);
      // The peer has dropped the reading. What is stored already is not stored twice.
      if (status === 410) after = undefined;
      await clock.sleep(isBusy ? BUSY_MS : RETRY_MS, signal);
    }
  }
  return failed(new Error('the peer sends more pages than it can have bindings'), signal);
}

async function fetchPage(
  { self, peer, of, client, signal }: BindingsReaderOptions,
  after: string | undefined,
): Promise<BindingsPage> {
  const body = formatBindingsRequest({ from: self, of, after });
  const text = await client.post(BINDINGS_PATH, body, { timeoutMs: PAGE_TIMEOUT_MS, signal });
  const page = parseBindingsPage(text);
  if (page?.machine !== peer) throw new Error('another Machine has responded');
  return page;
}

/** The peer is busy or does not list this Machine yet, or our store can't write now. */
function isTemporary(error: unknown): boolean {
  if (error instanceof PeerStatusError) return error.status === 503 || error.status === 403;
  return error instanceof StoreError && error.code === 'passing';
}

function failed(error: unknown, signal: AbortSignal): ReadOutcome {
  if (signal.aborted) return { kind: 'stopped' };
  return { kind: 'failed', reason: messageOf(error) };
}

/*
 * The messages by which a Machine that joins reads the bindings of a peer, page by page:
 *
 * ```
 * POST /v1/bindings  {from, of: "own" | "copies", after?: cursor}
 *                ->  {machine, owners: {<number>: id}, rows: [key, owner, generation, ageMs, ttlMs, key, ...], next?: cursor}
 * ```
 * `own`: the peer's own bindings. `copies`: its copies of bindings whose owners do not run; no owner has
 * confirmed them. All rows are one flat list. A row names its owner by a key of `owners`; the reader
 * skips rows whose owner is not named there. A cursor is valid only for the peer that gave it, until
 * that peer drops the reading.
 */

export const BINDINGS_PATH = '/v1/bindings';

/** The maximum size of a page in bytes: all rows of the maximum length, each with another owner. */
export const MAX_PAGE_BYTES = 160 * 1_024;

const CursorSchema = v.pipe(v.string(), v.regex(/^[0-9a-z-]{1,64}$/));

const RequestSchema = v.object({
  from: MachineIdSchema,
  of: v.picklist(['own', 'copies']),
  /** Where to continue; undefined for the first page. */
  after: v.optional(CursorSchema, () => undefined),
});

export type BindingsRequest = Readonly<v.InferOutput<typeof RequestSchema>>;
export type BindingsScope = BindingsRequest['of'];

export interface BindingRow {
  readonly key: SessionKey;
  readonly generation: number;
  /** Since it was bound first, in ms. */
  readonly ageMs: number;
  /** Time to live left, in ms. */
  readonly ttlMs: number;
  readonly owner: MachineId;
}

export interface BindingsPage {
  readonly machine: MachineId;
  readonly bindings: readonly BindingRow[];
  /** Undefined in the last page. */
  readonly next: string | undefined;
}

const PageSchema = v.object({
  machine: MachineIdSchema,
  owners: v.pipe(
    v.custom<object>((value) => !Array.isArray(value)),
    v.record(v.pipe(v.string(), v.digits()), MachineIdSchema),
    v.maxEntries(PAGE_BINDINGS),
  ),
  /** Checked by {@link parseRows}. */
  rows: v.custom<readonly unknown[]>(Array.isArray),
  next: v.optional(CursorSchema, () => undefined),
});

export const parseBindingsRequest = parserOf(RequestSchema);
const parsePage = parserOf(PageSchema);

export const formatBindingsRequest: (request: BindingsRequest) => string = JSON.stringify;

/** Concatenated: the rows are JSON already, and no Machine id or number needs to be escaped. */
export function formatBindingsPage({
  machine,
  page: { rows, owners },
  next,
}: Omit<BindingsPage, 'bindings'> & { readonly page: PeerPage }): string {
  const names = [...owners].map(([number, owner]) => `"${number}":"${owner}"`).join();
  const cursor = next === undefined ? '' : `,"next":"${next}"`;
  return `{"machine":"${machine}","owners":{${names}},"rows":[${rows}]${cursor}}`;
}

/** Undefined for text that does not match {@link PageSchema} and {@link parseRows}. */
export function parseBindingsPage(text: string): BindingsPage | undefined {
  const page = parsePage(text);
  const bindings = page && parseRows(page.rows, page.owners);
  return bindings && { machine: page.machine, bindings, next: page.next };
}

/**
 * The rows whose owner is named, or undefined if one is malformed. A loop and no schema: a schema would
 * need a list per row, and a page has a thousand rows.
 */
function parseRows(
  fields: readonly unknown[],
  owners: Readonly<Record<string, MachineId>>,
): readonly BindingRow[] | undefined {
  if (fields.length > PAGE_BINDINGS * ROW_FIELDS || fields.length % ROW_FIELDS > 0)
    return undefined;
  const rows: BindingRow[] = [];
  for (let at = 0; at < fields.length; at += ROW_FIELDS) {
    const [text, number, generation, ageMs, ttlMs] = fields.slice(at, at + ROW_FIELDS);
    const key = typeof text === 'string' ? parseSessionKey(text) : undefined;
    if (!key || !isWhole(number) || !isGeneration(generation) || !isWhole(ageMs)) return undefined;
    if (!isTtl(ttlMs, MAX_PAGE_TTL_MS)) return undefined;
    const owner = owners[number];
    if (owner) rows.push({ key, generation, ageMs, ttlMs, owner });
  }
  return rows;
}

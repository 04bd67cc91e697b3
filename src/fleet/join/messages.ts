/**
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
import * as v from 'valibot';
import { parseSessionKey, type MachineId, type SessionKey } from '../../session.ts';
import { PAGE_BINDINGS, ROW_FIELDS, type PeerPage } from '../../store/store.ts';
import { MAX_PAGE_TTL_MS } from '../../store/peer-pages.ts';
import { isGeneration, isTtl, isWhole, parserOf } from '../messages.ts';
import { MachineIdSchema } from '../../schemas.ts';

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

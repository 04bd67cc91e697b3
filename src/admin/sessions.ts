/**
 * `/sessions`: the sessions of the store behind this sidecar. Writes go through the sidecar's own
 * store, so its caches stay correct.
 *
 * ```
 * GET    /sessions[?owner=MACHINE][&limit=N]   all sessions, as an export (see sessions/document.ts)
 * POST   /sessions[?dry-run=true]              imports one; responds with a summary, 422 if a line was bad
 * GET    /sessions/KEY                         one session, or 404
 * DELETE /sessions/KEY[?if-owner=MACHINE]      204, or 404
 * ```
 * URLs contain session keys and never ids: an id in a URL would end up in a log.
 */
import { pipeline } from 'node:stream/promises';
import * as v from 'valibot';
import { readChunks, FlagSchema, NumberSchema, parseKey, parseQuery } from './input.ts';
import {
  HttpError,
  JSON_TYPE,
  respond,
  respondJson,
  STORE_FAILED,
  type AdminCall,
} from './router.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import { MachineIdSchema } from '../schemas.ts';
import { formatDocument, selectSessions, formatSession } from '../sessions/document.ts';
import {
  importSessions,
  type ImportResult,
  withWriteTimeout,
  mergeSessions,
  type OnSessionChanged,
} from '../sessions/import.ts';
import { StoreError, type SessionStore } from '../store/store.ts';

export interface SessionsParts {
  readonly store: SessionStore;
  /** Called when a session is deleted here, or moved to another Machine. */
  readonly onSessionChanged: OnSessionChanged;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

/** Longer than an operator waits, and shorter than a forgotten connection would last. */
const STALL_TIMEOUT_MS = 300_000;
/** Few at once: requests of clients wait for the same connections and the same writer. */
const IMPORT_BATCH_SIZE = 32;

export async function handleExportSessions(
  { query, response, closed }: AdminCall,
  { store, clock }: SessionsParts,
): Promise<void> {
  const selection = parseQuery(query, {
    owner: v.optional(MachineIdSchema),
    limit: v.optional(NumberSchema),
  });
  const chunks = formatDocument(selectSessions(store.entries(), selection, closed));
  // A store that fails at once gets an error response; later all that is left is to abort.
  const first = await chunks.next();
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  const onStall = (): void => void response.destroy();
  const timeout = { clock, timeoutMs: STALL_TIMEOUT_MS, onStall };
  await pipeline(withWriteTimeout(startingWith(first, chunks), timeout), response);
}

async function* startingWith(
  first: IteratorResult<string>,
  others: AsyncGenerator<string>,
): AsyncGenerator<string> {
  if (!first.done) yield first.value;
  yield* others;
}

export async function handleImportSessions(
  { query, request, response, closed }: AdminCall,
  { logger, ...parts }: SessionsParts,
): Promise<void> {
  const { 'dry-run': isDryRun } = parseQuery(query, { 'dry-run': v.optional(FlagSchema, 'false') });
  const mergeParts = { ...parts, isDryRun, signal: closed };
  const body = (): AsyncIterable<Buffer> => readChunks(request, parts.clock, STALL_TIMEOUT_MS);
  const result = await importSessions(body(), {
    merge: (bindings) => mergeSessions(bindings, mergeParts),
    batchSize: IMPORT_BATCH_SIZE,
  });
  const { summary, ended } = result;
  if (ended.kind === 'failed') {
    if (!(ended.cause instanceof StoreError)) throw ended.cause;
    logger.warn({ err: ended.cause }, 'import of sessions failed');
  }
  // Unread bytes would reset the connection, and the client would not get the response.
  await discard(body());
  respondJson(response, statusOf(result), { ...summary, ended: describeEnd(ended) });
}

async function discard(chunks: AsyncIterable<Buffer>): Promise<void> {
  const iterator = chunks[Symbol.asyncIterator]();
  for (let next = await iterator.next(); !next.done;) next = await iterator.next();
}

function statusOf({ summary, ended }: ImportResult): number {
  if (ended.kind === 'failed') return 503;
  return ended.kind === 'complete' && summary.bad === 0 ? 200 : 422;
}

function describeEnd(ended: ImportResult['ended']): object {
  return ended.kind === 'failed'
    ? { kind: ended.kind, line: ended.line, problem: STORE_FAILED }
    : ended;
}

export async function handleGetSession(
  { rest, query, response }: AdminCall,
  { store }: SessionsParts,
): Promise<void> {
  parseQuery(query, {});
  const found = await store.lookup(parseKey(rest));
  if (found === 'unknown') throw new StoreError('passing', 'the session store is not available');
  if (found === 'absent') throw new HttpError(404, 'no such session');
  respond(response, 200, JSON_TYPE, `${formatSession(found)}\n`);
}

export async function handleDeleteSession(
  { rest, query, response }: AdminCall,
  { store, logger, onSessionChanged }: SessionsParts,
): Promise<void> {
  const { 'if-owner': ifOwner } = parseQuery(query, { 'if-owner': v.optional(MachineIdSchema) });
  const key = parseKey(rest);
  const found = await store.lookup(key);
  const isDeleted = await store.delete(key, ifOwner);
  if (!isDeleted) throw new HttpError(404, 'no such session, or another Machine owns it');
  logger.info({ session: key }, 'session deleted through the admin listener');
  onSessionChanged(key, typeof found === 'object' ? found.machine : undefined, undefined);
  response.writeHead(204).end();
}

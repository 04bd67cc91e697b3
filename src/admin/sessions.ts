/**
 * `/sessions` of the admin listener: the sessions of the store behind this sidecar, for those who
 * bring `ADMIN_TOKEN`. What is written goes the sidecar's own way, so its caches know.
 *
 * ```
 * GET    /sessions[?owner=MACHINE][&limit=N]   all of them, as an export (see sessions/format.ts)
 * POST   /sessions[?dry-run=true]              imports one; answers the summary, 422 if a line was bad
 * GET    /sessions/KEY                         one of them, or 404
 * DELETE /sessions/KEY[?if-owner=MACHINE]      204, or 404
 * ```
 * Sessions are named by their keys: an id in a URL would end up in somebody's log.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { JSON_TYPE, respond, respondJson } from './answer.ts';
import {
  parseKey,
  parametersOf,
  parseFlag,
  parseLimit,
  parseOwner,
  HttpError,
  splitTarget,
} from './parameters.ts';
import { createTokenCheck } from './token.ts';
import type { Clock } from '../clock.ts';
import type { Logger } from '../observability/log.ts';
import { formatDocument } from '../sessions/document.ts';
import { formatSession } from '../sessions/format.ts';
import { importSessions, type ImportResult } from '../sessions/import.ts';
import { mergeSessions, type OnSessionChanged } from '../sessions/merge.ts';
import { selectSessions } from '../sessions/select.ts';
import { withWriteTimeout, withReadTimeout } from '../sessions/stall.ts';
import { StoreError, type SessionStore } from '../store/store.ts';

export interface SessionRoutesOptions {
  readonly token: string;
  readonly store: SessionStore;
  /** Told of what these routes delete, and move to another Machine. */
  readonly onSessionChanged?: OnSessionChanged;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

export interface SessionRoutes {
  /** Whether the path is one of these; then the request is answered. */
  answer(request: IncomingMessage, response: ServerResponse): boolean;
  /** Resolves once nothing is under way; connections end by themselves, or are cut before. */
  ended(): Promise<void>;
}

/** Longer than anybody waits, and shorter than a connection that is forgotten would last. */
const STALL_TIMEOUT_MS = 300_000;
/** Few at once: requests of clients wait for the same connections and the same writer. */
const IMPORT_BATCH_SIZE = 32;

export function createSessionRoutes(options: SessionRoutesOptions): SessionRoutes {
  const isAuthorized = createTokenCheck(options);
  const running = new Set<Promise<void>>();

  return {
    answer: (request, response) => {
      const [path, query] = splitTarget(request.url);
      if (path !== '/sessions' && !path.startsWith('/sessions/')) return false;
      if (!isAuthorized(request)) {
        response.setHeader('www-authenticate', 'Bearer');
        respondJson(response, 401, { error: 'wants Authorization: Bearer ADMIN_TOKEN' });
        return true;
      }
      const parameters = new URLSearchParams(query);
      const exchange = { path, query: parameters, request, response, gone: goneOf(response) };
      const answering = answer(exchange, options).finally(() => running.delete(answering));
      running.add(answering);
      return true;
    },
    ended: async () => {
      await Promise.all(running);
    },
  };
}

interface Exchange {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborts once the answer is over: sent, or the client has left. */
  readonly gone: AbortSignal;
}

function goneOf(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  return gone.signal;
}

/** Never rejects: what goes wrong is answered, as far as there is somebody to answer. */
async function answer(exchange: Exchange, options: SessionRoutesOptions): Promise<void> {
  const { response } = exchange;
  try {
    await route(exchange, options);
  } catch (error) {
    const { status, message } = refusalOf(error);
    // One who leaves ends the walk, and that is nobody's failure.
    const hasLeft = response.destroyed && !(error instanceof StoreError);
    if (status >= 500 && !hasLeft) options.logger.warn({ err: error }, FAILED);
    if (response.headersSent) response.destroy();
    else respondJson(response, status, { error: message });
  }
}

const FAILED = 'admin request about sessions failed';
const STORE_FAILED = 'the session store failed: the log of the sidecar says how';

/** Nothing from inside is shown. */
function refusalOf(error: unknown): { readonly status: number; readonly message: string } {
  if (error instanceof HttpError) return error;
  if (error instanceof StoreError) return { status: 503, message: STORE_FAILED };
  return { status: 500, message: 'failed' };
}

function route(exchange: Exchange, options: SessionRoutesOptions): Promise<void> {
  const { path, request, response } = exchange;
  const routes = path === '/sessions' ? ROUTES_OF_ALL : ROUTES_OF_ONE;
  const found = routes.get(request.method ?? '');
  if (found) return found(exchange, options);
  response.setHeader('allow', [...routes.keys()].join(', '));
  throw new HttpError(405, 'method not allowed');
}

type Route = (exchange: Exchange, options: SessionRoutesOptions) => Promise<void>;
const ROUTES_OF_ALL = new Map<string, Route>([
  ['GET', sendSessions],
  ['POST', takeSessions],
]);
const ROUTES_OF_ONE = new Map<string, Route>([
  ['GET', sendSession],
  ['DELETE', deleteSession],
]);

async function sendSessions(
  { query, response, gone }: Exchange,
  { store, clock }: SessionRoutesOptions,
): Promise<void> {
  const { owner, limit } = parametersOf(query, ['owner', 'limit']);
  const selection = { owner: parseOwner(owner), limit: parseLimit(limit) };
  const chunks = formatDocument(selectSessions(store.entries(), selection, gone));
  // A store that fails at once is an answer of its own; later all that is left is to break off.
  const first = await chunks.next();
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  const onStall = (): void => void response.destroy();
  const watch = { clock, timeoutMs: STALL_TIMEOUT_MS, onStall };
  await pipeline(withWriteTimeout(beginningWith(first, chunks), watch), response);
}

async function* beginningWith(
  first: IteratorResult<string>,
  others: AsyncGenerator<string>,
): AsyncGenerator<string> {
  if (!first.done) yield first.value;
  yield* others;
}

async function takeSessions(
  { query, request, response, gone }: Exchange,
  { logger, ...options }: SessionRoutesOptions,
): Promise<void> {
  const { 'dry-run': dryRun } = parametersOf(query, ['dry-run']);
  const parts = { ...options, isDryRun: parseFlag(dryRun), signal: gone };
  const result = await importSessions(bodyOf(request, options.clock), {
    merge: (bindings) => mergeSessions(bindings, parts),
    batchSize: IMPORT_BATCH_SIZE,
  });
  const { summary, ended } = result;
  if (ended.kind === 'failed') {
    if (!(ended.cause instanceof StoreError)) throw ended.cause;
    logger.warn({ err: ended.cause }, FAILED);
  }
  // Read to its end, or the answer would be lost with the connection.
  await readToEnd(bodyOf(request, options.clock));
  respondJson(response, statusOf(result), { ...summary, ended: describeEnd(ended) });
}

async function readToEnd(chunks: AsyncIterable<Buffer>): Promise<void> {
  const iterator = chunks[Symbol.asyncIterator]();
  for (let next = await iterator.next(); !next.done;) next = await iterator.next();
}

/** Stays readable, and answerable, when its reader has had enough. */
function bodyOf(request: IncomingMessage, clock: Clock): AsyncIterable<Buffer> {
  const onStall = (): void => void request.destroy();
  const chunks = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  return withReadTimeout(chunks, { clock, timeoutMs: STALL_TIMEOUT_MS, onStall });
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

async function sendSession(
  { path, query, response }: Exchange,
  { store }: SessionRoutesOptions,
): Promise<void> {
  parametersOf(query, []);
  const found = await store.lookup(parseKey(path.slice('/sessions/'.length)));
  if (found === 'unknown') throw new StoreError('passing', 'the session store can not tell now');
  if (found === 'absent') throw new HttpError(404, 'no such session');
  respond(response, 200, JSON_TYPE, `${formatSession(found)}\n`);
}

async function deleteSession(
  { path, query, response }: Exchange,
  { store, logger, onSessionChanged }: SessionRoutesOptions,
): Promise<void> {
  const { 'if-owner': ifOwner } = parametersOf(query, ['if-owner']);
  const key = parseKey(path.slice('/sessions/'.length));
  const found = await store.lookup(key);
  const isDeleted = await store.delete(key, parseOwner(ifOwner));
  if (!isDeleted) throw new HttpError(404, 'no such session, or another Machine owns it');
  logger.info({ session: key }, 'session deleted at the admin port');
  onSessionChanged?.(key, typeof found === 'object' ? found.machine : undefined, undefined);
  response.writeHead(204).end();
}

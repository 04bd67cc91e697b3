/** The sessions of a running sidecar, through `/sessions` of its admin listener. */
import { text as readText } from 'node:stream/consumers';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { retry } from '../../resilience.ts';
import {
  DocumentReader,
  formatDocument,
  type DocumentItem,
  type Selection,
  parseSessionLine,
} from '../../sessions/document.ts';
import {
  MERGE_RETRIES,
  NOTHING_MERGED,
  type MergeCounts,
  withReadTimeout,
} from '../../sessions/import.ts';
import { codeOf } from '../../errors.ts';
import { CommandFailed, type BackendParts, type SessionBackend } from './backend.ts';
import {
  createSidecarClient,
  failureOf,
  RESPONSE_TIMEOUT_MS,
  type SidecarClient,
} from './sidecar-client.ts';

/** `unavailable`: a program responds, but not with sessions. */
type SidecarStatus = 'available' | 'unauthorized' | 'unavailable' | 'not-listening';

/** Each batch is a request of its own. */
const MERGE_BATCH_SIZE = 1_000;

/** Rejects if something listens there and does not respond. */
export async function probeSidecarSessions(
  url: URL,
  token: string,
  clock: Clock,
): Promise<SidecarStatus> {
  const client = createSidecarClient(url, token, clock);
  try {
    const response = await client.send('GET', '/sessions?limit=0');
    response.resume();
    if (response.statusCode === 401) return 'unauthorized';
    const isExport = response.headers['content-type'] === 'application/x-ndjson';
    return response.statusCode === 200 && isExport ? 'available' : 'unavailable';
  } catch (error) {
    if (codeOf(error) === 'ECONNREFUSED') return 'not-listening';
    throw client.explain(error);
  } finally {
    client.close();
  }
}

export function openSidecarBackend(
  url: URL,
  token: string,
  { clock, random }: BackendParts,
): SessionBackend {
  const client = createSidecarClient(url, token, clock);
  const explained = async <Result>(send: () => Promise<Result>): Promise<Result> => {
    try {
      return await send();
    } catch (error) {
      throw client.explain(error);
    }
  };
  // The sidecar may just have closed the connection. A merge can be repeated: it is idempotent.
  const isRetryable = (error: unknown): boolean => BROKEN_CONNECTION.has(codeOf(error) ?? '');
  const retries = { ...MERGE_RETRIES, isRetryable, clock, random };
  return {
    name: `the sidecar at ${url.origin}`,
    entries: (selection) => readEntries(client, selection, clock),
    find: (key) => explained(() => find(client, key)),
    remove: (key, ifOwner) => explained(() => remove(client, key, ifOwner)),
    merge: (bindings, isDryRun) =>
      explained(() => retry(() => merge(client, bindings, isDryRun), retries)),
    mergeBatchSize: MERGE_BATCH_SIZE,
    close: () => {
      client.close();
      return Promise.resolve();
    },
  };
}

const BROKEN_CONNECTION: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNREFUSED']);

async function* readEntries(
  client: SidecarClient,
  { owner, limit }: Selection,
  clock: Clock,
): AsyncGenerator<Binding> {
  const query = new URLSearchParams();
  if (owner !== undefined) query.set('owner', owner);
  if (limit !== undefined) query.set('limit', String(limit));
  try {
    const response = await client.send('GET', `/sessions?${query.toString()}`);
    if (response.statusCode !== 200) throw await failureOf(response);
    const onStall = (): void => void response.destroy(new Error('the response stalled'));
    const watch = { clock, timeoutMs: RESPONSE_TIMEOUT_MS, onStall };
    const reader = new DocumentReader();
    for await (const chunk of withReadTimeout(response as AsyncIterable<Buffer>, watch)) {
      for (const item of reader.push(chunk)) yield bindingOf(item);
    }
    for (const item of reader.end()) yield bindingOf(item);
  } catch (error) {
    throw client.explain(error);
  }
}

/** A sidecar sends nothing else. */
function bindingOf(item: DocumentItem): Binding {
  if (item.kind === 'session') return item.binding;
  const { line, problem } = item;
  throw CommandFailed.unavailable(
    `cannot read the response of the sidecar: line ${line} ${problem}`,
  );
}

async function find(client: SidecarClient, key: SessionKey): Promise<Binding | undefined> {
  const response = await client.send('GET', `/sessions/${key}`);
  if (response.statusCode === 200) {
    const line = parseSessionLine(await readText(response));
    if (line.kind === 'session') return line.binding;
    throw CommandFailed.unavailable('the response of the sidecar is not a session');
  }
  if (response.statusCode !== 404) throw await failureOf(response);
  response.resume();
  return undefined;
}

async function remove(
  client: SidecarClient,
  key: SessionKey,
  ifOwner?: MachineId,
): Promise<boolean> {
  const query = ifOwner === undefined ? '' : `?if-owner=${ifOwner}`;
  const response = await client.send('DELETE', `/sessions/${key}${query}`);
  if (response.statusCode !== 204 && response.statusCode !== 404) throw await failureOf(response);
  response.resume();
  return response.statusCode === 204;
}

async function merge(
  client: SidecarClient,
  bindings: readonly Binding[],
  isDryRun: boolean,
): Promise<MergeCounts> {
  let body = '';
  for await (const chunk of formatDocument(bindings)) body += chunk;
  const response = await client.send('POST', `/sessions?dry-run=${isDryRun}`, body);
  if (response.statusCode !== 200) throw await failureOf(response);
  return countsIn(JSON.parse(await readText(response)));
}

function countsIn(summary: unknown): MergeCounts {
  const given = Object(summary) as Partial<Record<string, unknown>>;
  const counts = Object.keys(NOTHING_MERGED).map((name) => {
    const count = given[name];
    if (typeof count === 'number') return [name, count] as const;
    throw CommandFailed.unavailable('the response of the sidecar is not an import summary');
  });
  return { ...NOTHING_MERGED, ...Object.fromEntries(counts) };
}

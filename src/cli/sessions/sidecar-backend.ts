/** The sessions of a running sidecar, through `/sessions` of its admin listener. */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
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
import { CommandFailed, type BackendParts, type SessionBackend } from './backend.ts';

/** `unavailable`: a program responds, but not with sessions. */
export type SidecarStatus = 'available' | 'unauthorized' | 'unavailable' | 'not-listening';

/** More than a store takes to fail over; less, and an operator would not know that it is waiting. */
const RESPONSE_TIMEOUT_MS = 60_000;
/** Each batch is a request of its own. */
const MERGE_BATCH_SIZE = 1_000;

/** Rejects if something listens there and does not respond. */
export async function probeSidecarSessions(
  url: URL,
  token: string,
  clock: Clock,
): Promise<SidecarStatus> {
  const client = createClient(url, token, clock);
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
  const client = createClient(url, token, clock);
  const explained = async <Result>(send: () => Promise<Result>): Promise<Result> => {
    try {
      return await send();
    } catch (error) {
      throw client.explain(error);
    }
  };
  // The sidecar may just have closed the connection. A merge can be repeated: it is idempotent.
  const isRetryable = (error: unknown): boolean => BROKEN_CONNECTION.has(codeOf(error));
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

interface Client {
  /** Resolves when the head of the response arrives. */
  send(method: string, target: string, body?: string): Promise<IncomingMessage>;
  explain(error: unknown): Error;
  close(): void;
}

function createClient(url: URL, token: string, clock: Clock): Client {
  const agent = new Agent({ keepAlive: true });
  return {
    send: (method, target, body) =>
      new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}` };
        const request = httpRequest(new URL(target, url), { method, headers, agent });
        const cancel = clock.after(RESPONSE_TIMEOUT_MS, () =>
          request.destroy(new Error('no response')),
        );
        request.on('error', reject);
        request.once('close', cancel);
        request.once('response', (response) => {
          cancel();
          resolve(response);
        });
        request.end(body);
      }),
    explain: (error) => explain(url, error),
    close: () => agent.destroy(),
  };
}

function explain({ origin }: URL, error: unknown): Error {
  if (error instanceof CommandFailed) return error;
  const reason = codeOf(error) || (error instanceof Error ? error.message : String(error));
  return CommandFailed.unavailable(`the sidecar at ${origin} does not respond (${reason})`, error);
}

async function* readEntries(
  client: Client,
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

async function find(client: Client, key: SessionKey): Promise<Binding | undefined> {
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

async function remove(client: Client, key: SessionKey, ifOwner?: MachineId): Promise<boolean> {
  const query = ifOwner === undefined ? '' : `?if-owner=${ifOwner}`;
  const response = await client.send('DELETE', `/sessions/${key}${query}`);
  if (response.statusCode !== 204 && response.statusCode !== 404) throw await failureOf(response);
  response.resume();
  return response.statusCode === 204;
}

async function merge(
  client: Client,
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

async function failureOf(response: IncomingMessage): Promise<CommandFailed> {
  const text = await readText(response);
  // Messages of a sidecar have only such characters; nothing else is shown on a terminal.
  const [, message = ''] = /"(?:error|problem)":"([\w .:;,()/-]{1,200})"/.exec(text) ?? [];
  const why = message === '' ? '' : `: ${message}`;
  return CommandFailed.unavailable(`the sidecar responds ${response.statusCode}${why}`);
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** The sessions behind a running sidecar, as its admin listener shows them. */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import type { Binding, MachineId, SessionKey } from '../../session.ts';
import type { Clock } from '../../clock.ts';
import { retry } from '../../resilience.ts';
import {
  createDocumentReader,
  formatDocument,
  type DocumentItem,
} from '../../sessions/document.ts';
import { parseSessionLine } from '../../sessions/format.ts';
import { MERGE_RETRIES, NOTHING_MERGED, type MergeCounts } from '../../sessions/merge.ts';
import { withReadTimeout } from '../../sessions/stall.ts';
import type { Selection } from '../../sessions/select.ts';
import { CommandFailed } from './failure.ts';
import type { BackendParts, SessionBackend } from './place.ts';

/** What answers at a URL: the sessions, a sidecar that wants another token, something else, nothing. */
export type FoundAt = 'shown' | 'refused' | 'not-shown' | 'nobody-there';

/** Less than a store that fails over takes, or somebody thinks that nothing happens. */
const ANSWER_TIMEOUT_MS = 60_000;
/** Each is a request of its own. */
const MERGED_AT_ONCE = 1_000;

/** Rejects if something is there and does not answer. */
export async function findSessionsAt(url: URL, token: string, clock: Clock): Promise<FoundAt> {
  const client = createClient(url, token, clock);
  try {
    const response = await client.ask('GET', '/sessions?limit=0');
    response.resume();
    if (response.statusCode === 401) return 'refused';
    const isShown = response.headers['content-type'] === 'application/x-ndjson';
    return response.statusCode === 200 && isShown ? 'shown' : 'not-shown';
  } catch (error) {
    if (codeOf(error) === 'ECONNREFUSED') return 'nobody-there';
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
  const explained = async <Result>(ask: () => Promise<Result>): Promise<Result> => {
    try {
      return await ask();
    } catch (error) {
      throw client.explain(error);
    }
  };
  // A connection that the sidecar has just closed; doing it twice is doing it once.
  const isRetryable = (error: unknown): boolean => BROKEN_CONNECTION.has(codeOf(error));
  const retries = { ...MERGE_RETRIES, isRetryable, clock, random };
  return {
    name: `the sidecar at ${url.origin}`,
    entries: (selection) => readEntries(client, selection, clock),
    find: (key) => explained(() => find(client, key)),
    remove: (key, ifOwner) => explained(() => remove(client, key, ifOwner)),
    merge: (bindings, isDryRun) =>
      explained(() => retry(() => merge(client, bindings, isDryRun), retries)),
    mergedAtOnce: MERGED_AT_ONCE,
    close: () => {
      client.close();
      return Promise.resolve();
    },
  };
}

const BROKEN_CONNECTION: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNREFUSED']);

interface Client {
  /** Resolves to the head of the answer. */
  ask(method: string, target: string, body?: string): Promise<IncomingMessage>;
  explain(error: unknown): Error;
  close(): void;
}

function createClient(url: URL, token: string, clock: Clock): Client {
  const agent = new Agent({ keepAlive: true });
  return {
    ask: (method, target, body) =>
      new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}` };
        const request = httpRequest(new URL(target, url), { method, headers, agent });
        const cancel = clock.after(ANSWER_TIMEOUT_MS, () =>
          request.destroy(new Error('no answer')),
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
  return CommandFailed.unavailable(`the sidecar at ${origin} does not answer (${reason})`, error);
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
    const response = await client.ask('GET', `/sessions?${query.toString()}`);
    if (response.statusCode !== 200) throw await refusalOf(response);
    const onStall = (): void => void response.destroy(new Error('nothing more came'));
    const watch = { clock, timeoutMs: ANSWER_TIMEOUT_MS, onStall };
    const reader = createDocumentReader();
    for await (const chunk of withReadTimeout(response as AsyncIterable<Buffer>, watch)) {
      for (const finding of reader.push(chunk)) yield bindingOf(finding);
    }
    for (const finding of reader.end()) yield bindingOf(finding);
  } catch (error) {
    throw client.explain(error);
  }
}

/** Nothing else may come from a sidecar. */
function bindingOf(finding: DocumentItem): Binding {
  if (finding.kind === 'session') return finding.binding;
  const { line, problem } = finding;
  throw CommandFailed.unavailable(`what the sidecar sent can not be read: line ${line} ${problem}`);
}

async function find(client: Client, key: SessionKey): Promise<Binding | undefined> {
  const response = await client.ask('GET', `/sessions/${key}`);
  if (response.statusCode === 200) {
    const line = parseSessionLine(await readText(response));
    if (line.kind === 'session') return line.binding;
    throw CommandFailed.unavailable('what the sidecar sent is no session');
  }
  if (response.statusCode !== 404) throw await refusalOf(response);
  response.resume();
  return undefined;
}

async function remove(client: Client, key: SessionKey, ifOwner?: MachineId): Promise<boolean> {
  const query = ifOwner === undefined ? '' : `?if-owner=${ifOwner}`;
  const response = await client.ask('DELETE', `/sessions/${key}${query}`);
  if (response.statusCode !== 204 && response.statusCode !== 404) throw await refusalOf(response);
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
  const response = await client.ask('POST', `/sessions?dry-run=${isDryRun}`, body);
  if (response.statusCode !== 200) throw await refusalOf(response);
  return countsIn(JSON.parse(await readText(response)));
}

function countsIn(summary: unknown): MergeCounts {
  const given = Object(summary) as Partial<Record<string, unknown>>;
  const count = (name: keyof MergeCounts): number => {
    const value = given[name];
    if (typeof value === 'number') return value;
    throw CommandFailed.unavailable('what the sidecar answers is no summary of an import');
  };
  const [imported, alreadyThere] = [count('imported'), count('alreadyThere')];
  return {
    ...NOTHING_MERGED,
    imported,
    alreadyThere,
    expired: count('expired'),
    conflicts: count('conflicts'),
  };
}

async function refusalOf(response: IncomingMessage): Promise<CommandFailed> {
  const text = await readText(response);
  // A sidecar's own sentences are no more than that, and nothing else is shown on a terminal.
  const [, said = ''] = /"(?:error|problem)":"([\w .:;,()/-]{1,200})"/.exec(text) ?? [];
  const why = said === '' ? '' : `: ${said}`;
  return CommandFailed.unavailable(`the sidecar answers ${response.statusCode}${why}`);
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

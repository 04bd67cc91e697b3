/**
 * MCP beyond its two presets: which revision a request speaks, and the tasks of 2026-07-28. That revision has
 * no sessions: the response to a call may be a task, and later requests about the task have to reach the
 * Machine that has it (extension `io.modelcontextprotocol/tasks`, SEP-2663, "Streamable HTTP: Routing
 * Headers"). The tasks of 2025-11-25 live in a session.
 */
import { asObject, asText, parseJson } from '../json.ts';
import type { RequestHead } from './heads.ts';
import { createHeaderReader } from './id-locations.ts';
import { mayHoldJsonId } from './json-id.ts';
import { CONFLICT, type IdReading, type Protocol } from './protocol.ts';

/** The first MCP revision without sessions (changelog of 2026-07-28, SEP-2567). Revisions are dates. */
const FIRST_WITHOUT_SESSIONS = '2026-07-28';
const REVISION = /^\d{4}-\d{2}-\d{2}$/;

const TASK_METHODS: ReadonlySet<string> = new Set(['tasks/get', 'tasks/update', 'tasks/cancel']);
/** Methods whose response may be a task ("Supported Methods"). */
const TASK_CREATING_METHODS: ReadonlySet<string> = new Set(['tools/call']);
const NAME_HEADER = 'mcp-name';
const METHOD_HEADER = 'mcp-method';
/** Read from requests; in lower case. */
export const REVISION_HEADER = 'mcp-protocol-version';
export const TASK_HEADERS = [NAME_HEADER, METHOD_HEADER];
/** How a header holds a value that is no plain text (SEP-2243, "Value Encoding"); the marks have their case. */
const ENCODED = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/;

const readRevision = createHeaderReader(REVISION_HEADER);
const readMethod = createHeaderReader(METHOD_HEADER);
const readName = createHeaderReader(NAME_HEADER);

/**
 * The id of a task is in the result of a call:
 *
 *     { "jsonrpc": "2.0", "id": 1, "result": { "resultType": "task", "taskId": "786512e2", ... } }
 *
 * A task ends by expiry: clients may still ask for one that is cancelled.
 */
export const MCP_TASKS: Protocol = {
  name: 'mcp-tasks',
  idLocations: [{ in: 'head', header: NAME_HEADER, read: readTaskOfRequest }],
  mintedBy: 'app',
  discoveries: [
    {
      from: 'body',
      mayRevealId: mayCreateTask,
      contentType: /application\/json/i,
      begin: /[\s{]/,
      read: readTaskOfMessage,
    },
    {
      from: 'sse-message',
      mayRevealId: mayCreateTask,
      mayHold: (text) => mayHoldJsonId(text, ['result', 'taskId']),
      read: readTaskOfMessage,
    },
  ],
  errorForm: 'mcp-task',
  endsBy: 'expiry',
  isMcp: false,
};

export function isMcpWithoutSessions(head: RequestHead): boolean {
  const revision = readRevision(head);
  if (revision === undefined || revision === CONFLICT) return false;
  return REVISION.test(revision) && revision >= FIRST_WITHOUT_SESSIONS;
}

function hasMethodOf(methods: ReadonlySet<string>, head: RequestHead): boolean {
  // Runs on every request, so the check that reads no header comes first.
  if (head.method !== 'POST') return false;
  const method = readMethod(head);
  return typeof method === 'string' && methods.has(method) && isMcpWithoutSessions(head);
}

function mayCreateTask(head: RequestHead): boolean {
  return hasMethodOf(TASK_CREATING_METHODS, head);
}

function readTaskOfRequest(head: RequestHead): IdReading {
  if (!hasMethodOf(TASK_METHODS, head)) return undefined;
  const name = readName(head);
  if (name === undefined || name === CONFLICT) return name;
  const encoded = ENCODED.exec(name)?.[1];
  return encoded === undefined ? name : Buffer.from(encoded, 'base64').toString('latin1');
}

function readTaskOfMessage(message: string): string | undefined {
  const result = asObject(asObject(parseJson(message))?.result);
  return result?.resultType === 'task' ? asText(result.taskId) : undefined;
}

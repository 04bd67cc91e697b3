/**
 * The tasks of MCP 2026-07-28, which has no sessions: a call may be answered by a task, and what is
 * asked of that task later has to reach the Machine that has it (extension `io.modelcontextprotocol/
 * tasks`, SEP-2663, "Streamable HTTP: Routing Headers"). The tasks of 2025-11-25 live in a session.
 *
 *     { "jsonrpc": "2.0", "id": 1, "result": { "resultType": "task", "taskId": "786512e2", ... } }
 *
 * A task ends by expiry: one that is cancelled may still be asked for.
 */
import { asObject, asText, parseJson } from '../json.ts';
import { createHeaderReader } from './id-locations.ts';
import { type Protocol, type IdReading, CONFLICT } from './protocol.ts';
import type { RequestHead } from './heads.ts';

const TASK_METHODS: ReadonlySet<string> = new Set(['tasks/get', 'tasks/update', 'tasks/cancel']);
/** What may be answered by a task ("Supported Methods"). */
const MAKES_TASKS: ReadonlySet<string> = new Set(['tools/call']);
const NAME_HEADER = 'mcp-name';
const METHOD_HEADER = 'mcp-method';
/** What is read of requests, in lower case. */
export const TASK_HEADERS = [NAME_HEADER, METHOD_HEADER];
/** How a header holds what is no plain text (SEP-2243, "Value Encoding"); the marks have their case. */
const ENCODED = /^=\?base64\?([A-Za-z0-9+/]*={0,2})\?=$/;

const readMethod = createHeaderReader(METHOD_HEADER);
const readName = createHeaderReader(NAME_HEADER);

export const MCP_TASKS: Protocol = {
  name: 'mcp-tasks',
  idLocations: [{ in: 'head', header: NAME_HEADER, read: readTaskOfRequest }],
  mintedBy: 'app',
  discoveries: [
    {
      from: 'body',
      mayAnswer: mayMakeTask,
      contentTypes: ['application/json'],
      begin: /[\s{]/,
      read: readTaskOfMessage,
    },
    { from: 'sse-message', mayAnswer: mayMakeTask, read: readTaskOfMessage },
  ],
  errorForm: 'mcp-task',
  endsBy: 'expiry',
  isMcp: false,
};

function hasMethodOf(methods: ReadonlySet<string>, head: RequestHead): boolean {
  // Asked of every request, so what is told without a look at its headers comes first.
  if (head.method !== 'POST') return false;
  const method = readMethod(head);
  return typeof method === 'string' && methods.has(method) && isMcpWithoutSessions(head);
}

function mayMakeTask(head: RequestHead): boolean {
  return hasMethodOf(MAKES_TASKS, head);
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

/** The first MCP revision without sessions (changelog of 2026-07-28, SEP-2567). Revisions are dates. */
const FIRST_WITHOUT_SESSIONS = '2026-07-28';
const REVISION = /^\d{4}-\d{2}-\d{2}$/;

/** In lower case. */
export const REVISION_HEADER = 'mcp-protocol-version';

const readVersion = createHeaderReader(REVISION_HEADER);

export function isMcpWithoutSessions(head: RequestHead): boolean {
  const version = readVersion(head);
  if (version === undefined || version === CONFLICT) return false;
  return REVISION.test(version) && version >= FIRST_WITHOUT_SESSIONS;
}

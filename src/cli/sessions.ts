/** `fly-affinity sessions`: shows the sessions of a fleet, and copies them from store to store. */
import type { Readable } from 'node:stream';
import { reportMistake } from './command.ts';
import {
  INVALID_ID,
  operands,
  parseSessionsArguments,
  USAGE,
  type NamedSession,
  type SessionsCommand,
  type Where,
} from './sessions/arguments.ts';
import {
  CommandFailed,
  exitCodeFor,
  readToolConfig,
  type BackendParts,
  type SessionBackend,
} from './sessions/backend.ts';
import { deleteSession, getSession, listSessions } from './sessions/inspect.ts';
import { openSidecarBackend, probeSidecarSessions } from './sessions/sidecar-backend.ts';
import { adminUrlOf } from './sessions/sidecar-client.ts';
import { openStoreBackend } from './sessions/store-backend.ts';
import { printMessage, readFirstLine, type Streams } from './sessions/streams.ts';
import { exportSessions, importFrom, openSource } from './sessions/transfer.ts';
import { exitCodeOf } from '../app/lifecycle.ts';
import type { ProcessContext } from '../app/sidecar-process.ts';
import type { Environment, ToolConfig } from '../config/config.ts';
import { splitOwnerHint } from '../protocols/owner-hint.ts';
import { parseTypedSessionId, sessionKeyOf, type SessionId, type SessionKey } from '../session.ts';
import { codeOf, messageOf } from '../errors.ts';

export { operands, USAGE };

type Parts = Pick<ProcessContext, 'env' | 'clock' | 'random' | 'events' | 'endBy'> & Streams;

/** Resolves to the exit code. */
export async function execute(args: readonly string[], parts: Parts): Promise<number> {
  const { stdout, stderr } = parts;
  // Each write reports its own error.
  for (const stream of [stdout, stderr]) stream.on('error', () => undefined);
  const parsed = parseSessionsArguments(args);
  if (parsed.kind === 'help') {
    stdout.write(USAGE);
    return 0;
  }
  if (parsed.kind === 'mistakes') {
    return reportMistake(parts, parsed.mistakes.join('; '), 'sessions');
  }
  try {
    return await perform(parsed.command, parsed.where, parts);
  } catch (error) {
    if (isReaderGone(error)) return exitCodeOf('SIGPIPE');
    printMessage(parts, messageOf(error));
    return exitCodeFor(error);
  }
}

/** As with `head`, which closes its input after some lines. */
function isReaderGone(error: unknown): boolean {
  return codeOf(error) === 'EPIPE';
}

async function perform(command: SessionsCommand, where: Where, parts: Parts): Promise<number> {
  // Input is read before a store is opened.
  const performWith = await prepare(command, parts);
  const { env, clock, random } = parts;
  const backend = await openBackend(where, env, {
    clock,
    random,
    notify: (message) => printMessage(parts, message),
    mayCreate: command.kind === 'import' && !command.isDryRun,
  });
  try {
    printMessage(parts, `using ${backend.name}`);
    return await performWith(backend);
  } finally {
    await backend.close();
  }
}

async function prepare(
  command: SessionsCommand,
  parts: Parts,
): Promise<(backend: SessionBackend) => Promise<number>> {
  switch (command.kind) {
    case 'list': {
      const { selection, isJson } = command;
      return (backend) => listSessions(selection, isJson, { ...parts, backend });
    }
    case 'get': {
      const keys = await keysNamedBy(command.session, parts.stdin);
      return (backend) => getSession(keys, command.isJson, { ...parts, backend });
    }
    case 'delete': {
      const keys = await keysNamedBy(command.session, parts.stdin);
      return (backend) => deleteSession(keys, command.ifOwner, { ...parts, backend });
    }
    case 'export':
      return (backend) => exportSessions(command.file, { ...parts, backend });
    case 'import': {
      const source = await openSource(command.file, parts.stdin);
      return (backend) => importFrom(source, command.isDryRun, { ...parts, backend });
    }
  }
}

async function keysNamedBy(session: NamedSession, stdin: Readable): Promise<readonly SessionKey[]> {
  if (session.kind === 'key') return [session.key];
  if (session.kind === 'id') return keysOf(session.id);
  const id = parseTypedSessionId(await readFirstLine(stdin));
  if (!id) throw CommandFailed.usage(INVALID_ID);
  return keysOf(id);
}

/**
 * The key of the whole id, and of the part before an owner hint if the id ends like one. A client has
 * `id~machine` where the app has `id`, but an app's own id may also end like that: without the
 * sidecar's view of the fleet the command can't decide.
 */
function keysOf(id: SessionId): readonly SessionKey[] {
  const hinted = splitOwnerHint(id);
  return hinted ? [sessionKeyOf(id), sessionKeyOf(hinted.id)] : [sessionKeyOf(id)];
}

/** Rejects with a message for the operator. */
async function openBackend(
  where: Where,
  env: Environment,
  parts: BackendParts,
): Promise<SessionBackend> {
  const config = readToolConfig(env);
  switch (where.kind) {
    case 'default':
      return openDefault(config, parts);
    case 'configured':
      return openStoreBackend(config.store, parts);
    case 'file':
      return openStoreBackend({ ...config.store, ...NAMED, path: where.path }, parts);
    case 'database':
      return openStoreBackend({ ...config.store, ...NAMED, url: where.url }, parts);
    case 'sidecar':
      return openSidecar(where.url, config, parts);
  }
}

const NAMED = { isEnabled: true, url: undefined } as const;

async function openDefault(config: ToolConfig, parts: BackendParts): Promise<SessionBackend> {
  const { adminToken, adminPort, store } = config;
  if (adminToken === undefined || adminPort === 0) return openStoreBackend(store, parts);
  const url = adminUrlOf(config);
  const status = await probeSidecarSessions(url, adminToken, parts.clock);
  if (status === 'available') return openSidecarBackend(url, adminToken, parts);
  if (status === 'unauthorized') {
    const message = `the sidecar at ${url.origin} ${PROBLEMS[status]}; --direct reads the store itself`;
    throw CommandFailed.unavailable(message);
  }
  if (status === 'unavailable') parts.notify(`${url.origin} ${PROBLEMS[status]}`);
  return openStoreBackend(store, parts);
}

async function openSidecar(
  url: URL,
  { adminToken }: ToolConfig,
  parts: BackendParts,
): Promise<SessionBackend> {
  if (adminToken === undefined) throw CommandFailed.settings('ADMIN_TOKEN must be set for --admin');
  const status = await probeSidecarSessions(url, adminToken, parts.clock);
  if (status === 'available') return openSidecarBackend(url, adminToken, parts);
  throw CommandFailed.unavailable(`${url.origin} ${PROBLEMS[status]}`);
}

const PROBLEMS = {
  unauthorized: 'has another ADMIN_TOKEN',
  unavailable: 'shows no sessions: it is not a sidecar, or has no ADMIN_TOKEN',
  'not-listening': 'cannot be reached: nothing listens there',
} as const;

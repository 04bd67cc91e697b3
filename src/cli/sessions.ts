/** `fly-affinity sessions`: looks at the sessions of a fleet, and moves them from store to store. */
import type { Readable } from 'node:stream';
import { parseSessionId, type SessionKey } from '../session.ts';
import { exitCodeOf } from '../app/lifecycle.ts';
import {
  NO_ID,
  parseSessionsArguments,
  type NamedSession,
  type SessionsCommand,
  type Where,
} from './sessions/arguments.ts';
import { CommandFailed, exitCodeFor } from './sessions/failure.ts';
import { keysOf } from './sessions/key.ts';
import { deleteSession, getSession, listSessions } from './sessions/looking.ts';
import { exportSessions, importFrom, openSource } from './sessions/moving.ts';
import { openBackend } from './sessions/opening.ts';
import type { SessionBackend } from './sessions/place.ts';
import { readFirstLine, printMessage, type Streams } from './sessions/streams.ts';
import { SESSIONS_USAGE } from './sessions/usage.ts';
import { EXIT_USAGE } from '../app/exit-codes.ts';
import type { ProcessContext } from '../app/sidecar-process.ts';

type Parts = Pick<ProcessContext, 'env' | 'clock' | 'random' | 'events' | 'endBy'> & Streams;

/** Resolves to the exit code. */
export async function sessions(args: readonly string[], parts: Parts): Promise<number> {
  const { stdout, stderr } = parts;
  // Whoever writes hears of it by itself.
  for (const stream of [stdout, stderr]) stream.on('error', () => undefined);
  const parsed = parseSessionsArguments(args);
  if (parsed.kind === 'help') {
    stdout.write(SESSIONS_USAGE);
    return 0;
  }
  if (parsed.kind === 'mistakes') {
    printMessage(parts, `${parsed.mistakes.join('; ')}. See fly-affinity sessions --help.`);
    return EXIT_USAGE;
  }
  try {
    return await perform(parsed.command, parsed.where, parts);
  } catch (error) {
    if (isReaderGone(error)) return exitCodeOf('SIGPIPE');
    printMessage(parts, error instanceof Error ? error.message : String(error));
    return exitCodeFor(error);
  }
}

/** As with `head`, which has enough after some lines. */
function isReaderGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EPIPE';
}

async function perform(command: SessionsCommand, where: Where, parts: Parts): Promise<number> {
  // What comes from outside is there before a store is touched.
  const performAt = await prepare(command, parts);
  const { env, clock, random } = parts;
  const place = await openBackend(where, env, {
    clock,
    random,
    tell: (message) => printMessage(parts, message),
    mayCreate: command.kind === 'import' && !command.isDryRun,
  });
  try {
    printMessage(parts, `using ${place.name}`);
    return await performAt(place);
  } finally {
    await place.close();
  }
}

async function prepare(
  command: SessionsCommand,
  parts: Parts,
): Promise<(place: SessionBackend) => Promise<number>> {
  switch (command.kind) {
    case 'list': {
      const { selection, isJson } = command;
      return (place) => listSessions(selection, isJson, { ...parts, place });
    }
    case 'get': {
      const keys = await keysNamedBy(command.session, parts.stdin);
      return (place) => getSession(keys, command.isJson, { ...parts, place });
    }
    case 'delete': {
      const keys = await keysNamedBy(command.session, parts.stdin);
      return (place) => deleteSession(keys, command.ifOwner, { ...parts, place });
    }
    case 'export':
      return (place) => exportSessions(command.file, { ...parts, place });
    case 'import': {
      const source = await openSource(command.file, parts.stdin);
      return (place) => importFrom(source, command.isDryRun, { ...parts, place });
    }
  }
}

async function keysNamedBy(session: NamedSession, stdin: Readable): Promise<readonly SessionKey[]> {
  if (session.kind === 'key') return [session.key];
  if (session.kind === 'id') return keysOf(session.id);
  const id = parseSessionId(await readFirstLine(stdin));
  if (!id) throw CommandFailed.usage(NO_ID);
  return keysOf(id);
}

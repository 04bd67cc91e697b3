/**
 * Asks Fly.io to suspend this Machine, through the Unix socket that every Machine has for itself. No token is
 * needed there (https://fly.io/docs/reference/suspend-resume/).
 */
import { access, constants } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../clock.ts';
import { request } from '../http/node-http.ts';
import type { MachineId } from '../session.ts';
import { codeOf } from '../errors.ts';

export interface SuspendTarget {
  readonly socketPath: string;
  readonly app: string;
  readonly machine: MachineId;
}

/** In ms. A Machine that is suspended meanwhile resumes in the middle of it. */
const RESPONSE_TIMEOUT_MS = 10_000;
/** Of the response, which says why it failed. */
const MAX_SHOWN_CHARACTERS = 200;

/** Why the socket can't be used; undefined if it can. */
export async function findSocketProblem(socketPath: string): Promise<string | undefined> {
  try {
    await access(socketPath, constants.W_OK);
    return undefined;
  } catch (error) {
    return describe(error, socketPath);
  }
}

/** Resolves to why it failed, or to undefined if Fly.io has accepted it. Never rejects. */
export async function requestSuspend(
  target: SuspendTarget,
  clock: Clock,
  signal: AbortSignal,
): Promise<string | undefined> {
  const timeout = new AbortController();
  const cancel = clock.after(RESPONSE_TIMEOUT_MS, () => timeout.abort());
  try {
    const response = await post(target, AbortSignal.any([signal, timeout.signal]));
    const { statusCode = 0 } = response;
    const text = await textOf(response);
    return statusCode >= 200 && statusCode < 300
      ? undefined
      : `Fly.io responds ${statusCode}: ${text}`;
  } catch (error) {
    if (timeout.signal.aborted) return `Fly.io does not respond within ${RESPONSE_TIMEOUT_MS} ms`;
    return describe(error, target.socketPath);
  } finally {
    cancel();
  }
}

function post(
  { socketPath, app, machine }: SuspendTarget,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const path = `/v1/apps/${app}/machines/${machine}/suspend`;
    const headers = { host: 'flaps', connection: 'close' };
    request({ socketPath, method: 'POST', path, headers, agent: false, signal }, resolve)
      .on('error', reject)
      .end();
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const part of response as AsyncIterable<string>)
    if (text.length < MAX_SHOWN_CHARACTERS) text += part;
  return text.slice(0, MAX_SHOWN_CHARACTERS).trim();
}

function describe(error: unknown, socketPath: string): string {
  const code = codeOf(error) ?? 'unknown';
  if (code === 'ENOENT') return `there is no socket ${socketPath}`;
  if (code === 'EACCES') return `the user of the sidecar may not use the socket ${socketPath}`;
  return `the socket ${socketPath} fails: ${code}`;
}

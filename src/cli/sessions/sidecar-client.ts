/** Requests to the admin listener of a running sidecar. */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import { CommandFailed } from './backend.ts';
import type { Clock } from '../../clock.ts';
import type { ToolConfig } from '../../config/config.ts';
import { codeOf, messageOf } from '../../errors.ts';

/** More than a store takes to fail over; less, and an operator would not know that it is waiting. */
export const RESPONSE_TIMEOUT_MS = 60_000;

export interface SidecarClient {
  /** Resolves when the head of the response arrives. */
  send(method: string, target: string, body?: string): Promise<IncomingMessage>;
  explain(error: unknown): Error;
  close(): void;
}

export function createSidecarClient(url: URL, token: string, clock: Clock): SidecarClient {
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
  const reason = codeOf(error) ?? messageOf(error);
  return CommandFailed.unavailable(`the sidecar at ${origin} does not respond (${reason})`, error);
}

/** Where the sidecar of this Machine has its admin listener. */
export function adminUrlOf({ host, adminPort }: Pick<ToolConfig, 'host' | 'adminPort'>): URL {
  return new URL(`http://${dialableHost(host)}:${adminPort}`);
}

/** A listener on every address can be reached at this one. */
function dialableHost(host: string): string {
  if (host === '::' || host === '0.0.0.0') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

export async function failureOf(response: IncomingMessage): Promise<CommandFailed> {
  const text = await readText(response);
  // Messages of a sidecar have only such characters; nothing else is shown on a terminal.
  const [, message = ''] = /"(?:error|problem)":"([\w .:;,()/-]{1,200})"/.exec(text) ?? [];
  const why = message === '' ? '' : `: ${message}`;
  return CommandFailed.unavailable(`the sidecar responds ${response.statusCode}${why}`);
}

/** Which sessions a command is about: those behind a sidecar that runs here, or those of a store. */
import { parseToolConfig, type Environment, type ToolConfig } from '../../config/config.ts';
import type { Where } from './arguments.ts';
import { findSessionsAt, openSidecarBackend } from './behind-sidecar.ts';
import { CommandFailed } from './failure.ts';
import { openStoreBackend } from './in-store.ts';
import type { BackendParts, SessionBackend } from './place.ts';

/** Rejects with a sentence for the operator. */
export async function openBackend(
  where: Where,
  env: Environment,
  parts: BackendParts,
): Promise<SessionBackend> {
  const config = readConfig(env);
  switch (where.kind) {
    case 'near':
      return openNear(config, parts);
    case 'configured':
      return openStoreBackend(config.store, parts);
    case 'file':
      return openStoreBackend({ ...config.store, ...NAMED, path: where.path }, parts);
    case 'database':
      return openStoreBackend({ ...config.store, ...NAMED, url: where.url }, parts);
    case 'sidecar':
      return openAt(where.url, config, parts);
  }
}

const NAMED = { isEnabled: true, url: undefined } as const;

function readConfig(env: Environment): ToolConfig {
  const parsed = parseToolConfig(env);
  if ('config' in parsed) return parsed.config;
  throw CommandFailed.settings(parsed.mistakes.join('; '));
}

async function openNear(config: ToolConfig, parts: BackendParts): Promise<SessionBackend> {
  const { adminToken, adminPort, host, store } = config;
  if (adminToken === undefined || adminPort === 0) return openStoreBackend(store, parts);
  const url = new URL(`http://${dialableHost(host)}:${adminPort}`);
  const found = await findSessionsAt(url, adminToken, parts.clock);
  if (found === 'shown') return openSidecarBackend(url, adminToken, parts);
  if (found === 'refused') {
    const message = `the sidecar at ${url.origin} has another ADMIN_TOKEN; --direct asks the store itself`;
    throw CommandFailed.unavailable(message);
  }
  if (found === 'not-shown')
    parts.tell(`${url.origin} shows no sessions: no sidecar with ADMIN_TOKEN`);
  return openStoreBackend(store, parts);
}

async function openAt(url: URL, config: ToolConfig, parts: BackendParts): Promise<SessionBackend> {
  const { adminToken } = config;
  if (adminToken === undefined) throw CommandFailed.settings('ADMIN_TOKEN must be set for --admin');
  const found = await findSessionsAt(url, adminToken, parts.clock);
  if (found === 'shown') return openSidecarBackend(url, adminToken, parts);
  throw CommandFailed.unavailable(`${url.origin} ${WHY_NOT[found]}`);
}

const WHY_NOT = {
  refused: 'has another ADMIN_TOKEN',
  'not-shown': 'shows no sessions: it is no sidecar, or has no ADMIN_TOKEN',
  'nobody-there': 'can not be reached: nothing listens there',
} as const;

/** Who listens at every address does so at this one. */
function dialableHost(host: string): string {
  if (host === '::' || host === '0.0.0.0') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

/** Which revision of MCP a request speaks, as far as sessions go. */
import { CONFLICT, createHeaderReader } from './id-locations.ts';
import type { RequestHead } from './raw-headers.ts';

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

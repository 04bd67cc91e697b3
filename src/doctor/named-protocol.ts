/** Which protocols a person has named in `SESSION_PROTOCOLS`. */
import { MCP_TASKS } from '../protocols/mcp.ts';
import type { Protocol } from '../protocols/protocol.ts';

/** Not the tasks of newer revisions: they come with `mcp`, and nobody knows them by their name. */
export function isNamed(protocol: Protocol): boolean {
  return protocol !== MCP_TASKS;
}

/** Which fields of requests this folder reads: only their values are taken out of a head that passes. */
import { COOKIE_HEADERS } from './affinity-cookie.ts';
import { STREAM_HEADER } from './body-discoveries.ts';
import { REVISION_HEADER } from './mcp-revision.ts';
import { TASK_HEADERS } from './mcp-tasks.ts';
import type { Protocol } from './protocol.ts';

/** Their names, in lower case. */
export function namesReadOfRequests(protocols: readonly Protocol[]): readonly string[] {
  const ofSources = protocols.flatMap(({ sources }) =>
    sources.flatMap((source) => {
      if (source.in === 'header') return [source.name];
      return source.in === 'head' ? [source.header] : [];
    }),
  );
  return [...ofSources, ...COOKIE_HEADERS, STREAM_HEADER, REVISION_HEADER, ...TASK_HEADERS];
}

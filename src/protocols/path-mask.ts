/** Takes session ids out of paths that are to be logged: an id is a credential (invariant 5). */
import { findPathId } from './id-locations.ts';
import type { Protocol } from './protocol.ts';
import { replaceAt } from './span.ts';

const MASK = '*';

/** For a path without its query. Paths are the same text where no protocol reads ids in them. */
export function createPathMask(protocols: readonly Protocol[]): (path: string) => string {
  const patterns = protocols.flatMap(({ sources }) =>
    sources.flatMap((source) => (source.in === 'path' ? [source.pattern] : [])),
  );
  if (patterns.length === 0) return (path) => path;
  return (path) =>
    patterns.reduce((masked, pattern) => {
      const span = findPathId(path, pattern);
      return span ? replaceAt(masked, span, MASK.repeat(span.end - span.start)) : masked;
    }, path);
}

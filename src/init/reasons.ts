/** Comments that `init` writes above the tables that it adds. */
import type { ValuePath } from '../doctor/change.ts';

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^env$/, '# The settings of the sidecar; the app keeps its own.'],
  [/^mounts$/, '# The session store survives restarts here. Each Machine has a volume of its own.'],
  [
    /^checks\./,
    '# Of the sidecar. Not of the service: requests of its sessions must reach a draining Machine.',
  ],
  [/http_options$/, '# In seconds. Fly Proxy cuts a stream that is silent for longer.'],
  [/concurrency$/, '# An open stream counts as a request as long as it lives.'],
  [/^deploy$/, '# One Machine after the other, each with its id and its volume.'],
];

/** One line, or none. */
export function reasonFor(path: ValuePath): readonly string[] {
  const name = path.filter((key) => typeof key === 'string').join('.');
  const found = REASONS.find(([pattern]) => pattern.test(name));
  return found ? [found[1]] : [];
}

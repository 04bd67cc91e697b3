/** The list of test files: `test/README.md` has the rule. */
import { globSync } from 'node:fs';

/** The files of `npm test`: all but the end-to-end tests. */
export const FAST: readonly string[] = find('test/**/*.test.ts');
/** The files that depend on node:net most, and are tested on other versions of Node.js too. */
export const WIRE: readonly string[] = find('test/{http,proxy}/**/*.test.ts');

function find(pattern: string): string[] {
  return globSync(pattern)
    .filter((file) => !isEndToEnd(file))
    .sort();
}

function isEndToEnd(file: string): boolean {
  return file.startsWith('test/e2e/') || file.endsWith('.e2e.test.ts');
}

/**
 * The duration of the slowest files, in seconds; a file that is not listed takes about
 * {@link USUAL_S}. Only the balance depends on it: measure again when one half ends long before the
 * other.
 */
const LONG_S: Readonly<Record<string, number>> = {
  'test/proxy/faults/early-response.test.ts': 27,
  'test/store/sqlite/damaged.test.ts': 22.5,
  'test/proxy/faults/half-closed-tunnels.test.ts': 19,
  'test/store/sqlite/sqlite.test.ts': 17,
  'test/app/leaks.test.ts': 14,
  'test/fleet/join/join.test.ts': 10,
  'test/store/resilient/resilient.test.ts': 9.5,
  'test/http/client-timeouts.test.ts': 9.5,
  'test/proxy/promises.test.ts': 6.5,
  'test/routing/key-cache.test.ts': 6,
  'test/store/resilient/model.test.ts': 6,
  'test/http/client-connection.test.ts': 5.5,
  'test/store/resilient/faults.test.ts': 5,
  'test/proxy/faults/refused-requests.test.ts': 4.5,
  'test/cli/sessions/inspect.test.ts': 4.5,
  'test/proxy/invented-ids-flood.test.ts': 4.5,
  'test/store/in-flight.test.ts': 4.5,
  'test/cli/outputs/outputs.test.ts': 4,
  'test/proxy/http.test.ts': 4,
  'test/admin/sessions.test.ts': 3.5,
  'test/proxy/placement-claims.test.ts': 3.5,
  'test/store/resilient/sqlite.test.ts': 3.5,
  'test/fleet/dns-directory.test.ts': 3.5,
  'test/proxy/faults/forward-limits.test.ts': 3,
  'test/proxy/protocols.test.ts': 3,
  'test/store/sqlite/moved.test.ts': 2.5,
  'test/proxy/placement-silent.test.ts': 2.5,
  'test/store/resilient/pending-change.test.ts': 2.5,
  'test/proxy/placement-candidates.test.ts': 2.5,
  'test/proxy/sessions.test.ts': 2.5,
  'test/http/response-pipe.test.ts': 2.5,
  'test/store/sqlite/false-damage.test.ts': 2.5,
  'test/proxy/conformance/forwarded.test.ts': 2,
  'test/fleet/claim-resolver.test.ts': 2,
  'test/app/app.test.ts': 2,
  'test/protocols/sse-endpoint-discovery.test.ts': 2,
};
const USUAL_S = 0.4;

const durationOf = (file: string): number => LONG_S[file] ?? USUAL_S;

/**
 * One of the two halves that run side by side and take equally long: the longest first, each file
 * goes to the half that has less to do.
 */
export function halfOf(files: readonly string[], half: 0 | 1): readonly string[] {
  const total: [number, number] = [0, 0];
  const chosen = new Set<string>();
  for (const file of files.toSorted((one, other) => durationOf(other) - durationOf(one))) {
    const next = total[0] <= total[1] ? 0 : 1;
    total[next] += durationOf(file);
    if (next === half) chosen.add(file);
  }
  return files.filter((file) => chosen.has(file));
}

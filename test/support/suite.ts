/** Which test files there are: `test/README.md` has the rule. */
import { globSync } from 'node:fs';

/** What `npm test` runs: all but the end-to-end tests. */
export const FAST: readonly string[] = find('test/**/*.test.ts');
/** What depends on node:net most, and is tested on other versions of Node.js too. */
export const WIRE: readonly string[] = find('test/{http,proxy}/**/*.test.ts');

function find(pattern: string): string[] {
  return globSync(pattern)
    .filter((file) => !isEndToEnd(file))
    .sort();
}

function isEndToEnd(file: string): boolean {
  return file.startsWith('test/e2e/') || file.endsWith('.e2e.test.ts');
}

/** One of the two halves that run side by side. */
export function everyOther(files: readonly string[], first: 0 | 1): readonly string[] {
  return files.filter((_, index) => index % 2 === first);
}

/** Files of the package that are read at run time: they are in the same place for `src` and for `dist`. */
import { readdirSync, readFileSync } from 'node:fs';

const ROOT = new URL('../', import.meta.url);
const DOCS = new URL('src/docs/', ROOT);

export function readVersion(): string {
  const text = readFileSync(new URL('package.json', ROOT), 'utf8');
  const { version } = JSON.parse(text) as { readonly version: string };
  return version;
}

/** The pages of the documentation, by name and without `.md`; empty where they are not installed. */
export function listPages(): readonly string[] {
  try {
    const files = readdirSync(DOCS).filter((file) => file.endsWith('.md'));
    return files.map((file) => file.slice(0, -'.md'.length)).sort();
  } catch {
    // A copy of `dist` alone works as well, without its documentation.
    return [];
  }
}

/** `name`: one of {@link listPages}. */
export function readPage(name: string): string {
  return readFileSync(new URL(`${name}.md`, DOCS), 'utf8');
}

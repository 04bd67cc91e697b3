/** Reads a small text file so that writing it again changes nothing but what was edited. */
import { readFile } from 'node:fs/promises';

/** No Dockerfile and no `fly.toml` is larger; comparing the lines of two takes the square of their number. */
const MAX_BYTES = 256 * 1024;

/** Rejects with a `code` that tells people why. A byte order mark is left out. */
export async function readTextFile(path: string): Promise<string> {
  const bytes = await readFile(path);
  if (bytes.length > MAX_BYTES) throw refusal(`larger than ${MAX_BYTES / 1024} KiB`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    // Of another encoding: bytes that can't be read would be lost when it is written.
    throw refusal('not in UTF-8');
  }
}

function refusal(code: string): Error {
  return Object.assign(new Error(code), { code });
}

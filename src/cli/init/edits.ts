/** Shows edits of files, asks for them, and writes them. */
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import type { Readable } from 'node:stream';
import { errorCodeOf } from '../../doctor/probe.ts';
import { readTextFile } from '../../doctor/text-file.ts';
import { unifiedDiff } from '../../init/diff.ts';
import type { Edit } from '../../init/init.ts';

export function showEdits(edits: readonly Edit[]): string {
  return edits.map(({ path, before, after }) => unifiedDiff(path, before, after)).join('\n');
}

export interface Terminal {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

/** False, and says so, if the person declines or there is none. */
export async function isConfirmed({ stdin, stdout, stderr }: Terminal): Promise<boolean> {
  if (stdin.isTTY !== true) {
    stderr.write(
      'Nothing was written: standard input is not a terminal, so nobody can confirm. Add --yes, or --dry-run.\n',
    );
    return false;
  }
  const lines = createInterface({ input: stdin, output: stdout });
  try {
    const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
    const answer = await Promise.race([lines.question('Write these changes? [y/N] '), closed]);
    if (/^y(es)?$/i.test(answer.trim())) return true;
    stderr.write('Nothing was written.\n');
    return false;
  } finally {
    lines.close();
  }
}

/** All, or none: resolves to a sentence if one can't be written, or is another than the person has seen. */
export async function writeEdits(edits: readonly Edit[]): Promise<string | undefined> {
  for (const { path, before } of edits) {
    if ((await textOf(path)) !== before)
      return `${path} has changed since it was read. Nothing was written: run this again.`;
  }
  const begun: Edit[] = [];
  for (const edit of edits) {
    begun.push(edit);
    try {
      await writeFile(edit.path, edit.after);
    } catch (failure) {
      const reason = `Could not write ${edit.path} (${errorCodeOf(failure)}).`;
      return `${reason} ${await restore(begun)}`;
    }
  }
  return undefined;
}

/** Undefined if it can't be read any more. */
function textOf(path: string): Promise<string | undefined> {
  return readTextFile(path).catch(() => undefined);
}

/** A disk that is full takes a part of a file. */
async function restore(edits: readonly Edit[]): Promise<string> {
  const broken: string[] = [];
  for (const { path, before } of edits) {
    if ((await textOf(path)) === before) continue;
    await writeFile(path, before).catch(() => broken.push(path));
  }
  if (broken.length === 0) return 'Nothing was changed.';
  return `Could not restore ${broken.join(' and ')}: take what you committed last.`;
}

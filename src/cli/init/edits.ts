/** Shows edits of files, asks for them, and writes them. */
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import type { Readable } from 'node:stream';
import { errorCodeOf } from '../../doctor/probe.ts';
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
    stderr.write('Nothing was written: this is no terminal to ask on. Add --yes, or --dry-run.\n');
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

/** All, or none: resolves to a sentence if one can't be written. */
export async function writeEdits(edits: readonly Edit[]): Promise<string | undefined> {
  const written: Edit[] = [];
  for (const edit of edits) {
    try {
      await writeFile(edit.path, edit.after);
      written.push(edit);
    } catch (failure) {
      await Promise.all(written.map(({ path, before }) => writeFile(path, before)));
      return `Could not write ${edit.path} (${errorCodeOf(failure)}). Nothing was changed.`;
    }
  }
  return undefined;
}

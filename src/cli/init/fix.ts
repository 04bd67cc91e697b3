/** `fly-affinity doctor --fix`: fixes what can be fixed in the configuration file. */
import { isConfirmed, showEdits, writeEdits, type Terminal } from './edits.ts';
import { readConfigFile } from '../../doctor/config-file.ts';
import { fixesFor, type DiagnoseParts } from '../../doctor/diagnose.ts';
import { CannotEdit } from '../../init/cannot-edit.ts';
import { editConfig } from '../../init/config-edit.ts';

interface FixOptions {
  readonly configFile: string | undefined;
  /** Whether to write without asking. */
  readonly isSure: boolean;
}

type Fixed = 'written' | 'nothing' | 'not written';

/** `nothing`: the file has nothing that can be fixed. */
export async function fixConfig(
  { configFile, isSure }: FixOptions,
  parts: DiagnoseParts & Terminal,
): Promise<Fixed> {
  const { stdout, stderr } = parts;
  const read = await readConfigFile(configFile);
  if (read.kind !== 'read') return 'nothing';
  const { path, text } = read.file;
  try {
    const edits = [
      { path, before: text, after: await editConfig(read.file, fixesFor(read.file, parts)) },
    ];
    if (edits[0]?.after === text) {
      stdout.write('\nThere is nothing to fix in the file.\n');
      return 'nothing';
    }
    stdout.write(`\n${showEdits(edits)}\n`);
    if (!isSure && !(await isConfirmed(parts))) return 'not written';
    const failure = await writeEdits(edits);
    if (failure === undefined) stdout.write(`Written: ${path}.\n\n`);
    else stderr.write(`fly-affinity doctor: ${failure}\n`);
    return failure === undefined ? 'written' : 'not written';
  } catch (error) {
    if (!(error instanceof CannotEdit)) throw error;
    stderr.write(`fly-affinity doctor: ${error.message}. Change the file by hand.\n`);
    return 'not written';
  }
}

/** `fly-affinity doctor --fix`: edits the configuration file where that mends a finding. */
import { isConfirmed, showEdits, writeEdits, type Terminal } from './edits.ts';
import { EXIT_FAILURE } from '../../app/lifecycle.ts';
import { readConfigFile } from '../../doctor/config-file.ts';
import { fixesFor, type DiagnoseParts } from '../../doctor/diagnose.ts';
import { CannotEdit } from '../../init/cannot-edit.ts';
import { editConfig } from '../../init/config-edit.ts';

export interface FixOptions {
  readonly configFile: string | undefined;
  /** Whether to write without asking. */
  readonly isSure: boolean;
}

/** Resolves to an exit code if nothing was written, though something could be mended. */
export async function fixConfig(
  { configFile, isSure }: FixOptions,
  parts: DiagnoseParts & Terminal,
): Promise<number | undefined> {
  const { stdout, stderr } = parts;
  const read = await readConfigFile(configFile);
  if (read.kind !== 'read') return undefined;
  const { path, text } = read.file;
  try {
    const edits = [
      { path, before: text, after: await editConfig(read.file, fixesFor(read.file, parts)) },
    ];
    if (edits[0]?.after === text) {
      stdout.write('\nNo change of the file would mend anything.\n');
      return undefined;
    }
    stdout.write(`\n${showEdits(edits)}\n`);
    if (!isSure && !(await isConfirmed(parts))) return EXIT_FAILURE;
    const failure = await writeEdits(edits);
    if (failure === undefined) stdout.write(`Written: ${path}.\n\n`);
    else stderr.write(`fly-affinity doctor: ${failure}\n`);
    return failure === undefined ? undefined : EXIT_FAILURE;
  } catch (error) {
    if (!(error instanceof CannotEdit)) throw error;
    stderr.write(`fly-affinity doctor: ${error.message}. Change the file by hand.\n`);
    return EXIT_FAILURE;
  }
}

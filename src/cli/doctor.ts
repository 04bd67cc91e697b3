/** `fly-affinity doctor`: looks at settings, fly.toml and Machine, and says what is wrong and why. */
import type { Writable } from 'node:stream';
import { formatJson, formatText, hasErrors } from '../doctor/report.ts';
import { parseDoctorArguments } from './doctor/arguments.ts';
import { diagnose, type ExamineParts } from './doctor/examine.ts';
import { DOCTOR_USAGE } from './doctor/usage.ts';
import { EXIT_FAILURE, EXIT_USAGE } from '../app/exit-codes.ts';

interface Parts extends ExamineParts {
  readonly stdout: Writable;
  readonly stderr: Writable;
}

/** Resolves to the exit code, once all is written. */
export async function doctor(args: readonly string[], parts: Parts): Promise<number> {
  const { stdout, stderr } = parts;
  const parsed = parseDoctorArguments(args);
  if (parsed.kind === 'help') {
    await write(stdout, DOCTOR_USAGE);
    return 0;
  }
  if (parsed.kind === 'mistake') {
    await write(
      stderr,
      `fly-affinity doctor: ${parsed.message}. See fly-affinity doctor --help.\n`,
    );
    return EXIT_USAGE;
  }
  const sections = await diagnose(parsed.configFile, parts);
  await write(stdout, parsed.isJson ? formatJson(sections) : formatText(sections));
  return hasErrors(sections) ? EXIT_FAILURE : 0;
}

/** A reader that has enough, as `head` has, is no failure. */
function write(stream: Writable, text: string): Promise<void> {
  stream.once('error', () => undefined);
  return new Promise((resolve) => {
    stream.write(text, () => resolve());
  });
}

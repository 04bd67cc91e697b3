/** `fly-affinity doctor`: checks settings, fly.toml and Machine, and reports what is wrong. */
import { parseArgs } from 'node:util';
import { print, reportMistake, type CommandContext } from './command.ts';
import { EXIT_CONFIG, EXIT_FAILURE } from '../app/lifecycle.ts';
import { diagnose, type DiagnoseParts } from '../doctor/diagnose.ts';
import { hasErrors, type Section } from '../doctor/report.ts';
import { formatAll, formatJson, formatText } from '../doctor/report-format.ts';
import { messageOf } from '../errors.ts';

export const USAGE = `Usage: fly-affinity doctor [--config fly.toml] [--all | --json | --fix [--yes]]

Checks the settings, fly.toml and, on a Fly.io Machine, the volume, the store, the DNS, the other
Machines, the clock, the app and the sidecar that runs there. Reports what is wrong, errors first, why
it matters, and what to write instead. Without --fix it changes nothing.

  --config FILE   the fly.toml; the default is the fly.toml, fly.json or fly.yaml in this directory, if
                  there is one
  --all           also what is right, and the reason for each note
  --json          the findings as one JSON object: {ok, counts, findings: [{group, level, what, why,
                  instead}]}
  --fix           fix what can be fixed in the file: shows the changes, and asks first
  --yes           with --fix: without asking

On any other computer the settings are those of [env] in fly.toml; variables of this shell take
precedence, as secrets do.

Exit code: 0; 1 if there is an error (warnings do not count); 64 for a mistake in the command; 78 for
a mistake in the settings.
`;

/** Resolves to the exit code. */
export async function execute(args: readonly string[], parts: DoctorParts): Promise<number> {
  const parsed = parseDoctorArguments(args);
  switch (parsed.kind) {
    case 'help':
      await print(parts.stdout, USAGE);
      return 0;
    case 'mistake':
      return reportMistake(parts, parsed.message, 'doctor');
    case 'diagnose':
      return report(parsed, parts);
  }
}

type DoctorParts = DiagnoseParts & Pick<CommandContext, 'stdin' | 'stdout' | 'stderr'>;

async function report(parsed: Diagnosis, parts: DoctorParts): Promise<number> {
  const sections = await diagnose(parsed.configFile, parts);
  await print(parts.stdout, reportOf(sections, parsed.format));
  if (!parsed.isFix) return exitCodeFor(sections);
  const { fixConfig } = await import('./init/fix.ts');
  const fixed = await fixConfig(parsed, parts);
  if (fixed === 'not written') return EXIT_FAILURE;
  if (fixed === 'nothing') return exitCodeFor(sections);
  const after = await diagnose(parsed.configFile, parts);
  await print(parts.stdout, reportOf(after, parsed.format));
  return exitCodeFor(after);
}

function exitCodeFor(sections: readonly Section[]): number {
  if (sections.some(({ hasMistakes }) => hasMistakes)) return EXIT_CONFIG;
  return hasErrors(sections) ? EXIT_FAILURE : 0;
}

type Format = 'first' | 'all' | 'json';

function reportOf(sections: readonly Section[], format: Format): string {
  switch (format) {
    case 'first':
      return formatText(sections);
    case 'all':
      return formatAll(sections);
    case 'json':
      return formatJson(sections);
  }
}

function formatOf({ json, all }: { readonly json: boolean; readonly all: boolean }): Format {
  if (json) return 'json';
  return all ? 'all' : 'first';
}

type DoctorArguments =
  { readonly kind: 'help' } | { readonly kind: 'mistake'; readonly message: string } | Diagnosis;

interface Diagnosis {
  readonly kind: 'diagnose';
  /** Undefined: the one in this directory, if it exists. */
  readonly configFile: string | undefined;
  readonly format: Format;
  readonly isFix: boolean;
  /** Whether to write without asking. */
  readonly isSure: boolean;
}

function parseDoctorArguments(args: readonly string[]): DoctorArguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', short: 'c' },
        json: { type: 'boolean', default: false },
        all: { type: 'boolean', default: false },
        fix: { type: 'boolean', default: false },
        yes: { type: 'boolean', short: 'y', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) return { kind: 'help' };
    if (values.config === '') return { kind: 'mistake', message: '--config needs a file' };
    const { config: configFile, fix: isFix, yes: isSure } = values;
    if (isFix && values.json)
      return { kind: 'mistake', message: '--fix and --json exclude each other' };
    if (isSure && !isFix) return { kind: 'mistake', message: '--yes needs --fix' };
    return { kind: 'diagnose', configFile, format: formatOf(values), isFix, isSure };
  } catch (error) {
    return { kind: 'mistake', message: messageOf(error) };
  }
}

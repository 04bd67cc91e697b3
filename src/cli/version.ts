/** `fly-affinity version`, the same as `--version`. */
import { readVersion } from '../package.ts';
import { print, reportMistake, type CommandModule } from './command.ts';

export const USAGE = `Usage: fly-affinity version

Prints the version, as fly-affinity -V does.
`;

export const execute: CommandModule['execute'] = async (args, context) => {
  if (args.length > 0) return reportMistake(context, 'it takes no arguments', 'version');
  await print(context.stdout, `${readVersion()}\n`);
  return 0;
};

/** The arguments of `fly-affinity doctor`. */
import { parseArgs } from 'node:util';

export type DoctorArguments =
  | { readonly kind: 'help' }
  | { readonly kind: 'mistake'; readonly message: string }
  | {
      readonly kind: 'examine';
      /** Undefined: the one in this directory, if there is one. */
      readonly configFile: string | undefined;
      readonly isJson: boolean;
    };

export function parseDoctorArguments(args: readonly string[]): DoctorArguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', short: 'c' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) return { kind: 'help' };
    if (values.config === '') return { kind: 'mistake', message: '--config wants a file' };
    return { kind: 'examine', configFile: values.config, isJson: values.json };
  } catch (error) {
    return { kind: 'mistake', message: error instanceof Error ? error.message : String(error) };
  }
}

/** `fly-affinity init`: puts the sidecar into an app's Dockerfile and fly.toml, and takes it out again. */
import { parseArgs } from 'node:util';
import { print, reportMistake, type CommandContext, type CommandModule } from './command.ts';
import { isConfirmed, showEdits, writeEdits } from './init/edits.ts';
import { EXIT_FAILURE } from '../app/lifecycle.ts';
import { prepareInit, prepareRemoval, type Edit } from '../init/init.ts';
import type { InitPlan } from '../init/plan.ts';
import type { Refusal } from '../init/refusals.ts';
import { STORES, type Store } from '../init/stores.ts';
import { readVersion } from '../package.ts';
import { messageOf } from '../errors.ts';

export const USAGE = `Usage: fly-affinity init [--config fly.toml] [--store STORE] [--yes | --dry-run] [--remove]

Puts the sidecar into an app: into its Dockerfile, and into its fly.toml (fly.json, fly.yaml). Finds out
port, user, volume, framework and the variables that the app uses itself; shows what it would change, and
asks. All other lines stay, and no volume is replaced. Run again, it brings both files up to date.

  --config FILE   the default is the fly.toml, fly.json or fly.yaml in this directory; the Dockerfile is the
                  one that it names, or the one beside it
  --store STORE   where the sidecar keeps which Machine has which session:
                    existing  a file on the volume that the app has (the default if it has one)
                    volume    a file on a new volume (the default if it has none)
                    shared    a Redis or Postgres, whose URL you set as a secret
                    memory    nowhere: a Machine that restarts asks the others
  --yes           write without asking
  --dry-run       show, and write nothing
  --remove        take the sidecar out again

Exit code: 0; 1 if nothing could be written, or you said no; 64 for a mistake in the command.
`;

export const execute: CommandModule['execute'] = async (args, context) => {
  const parsed = parseInitArguments(args);
  if (parsed.kind === 'mistake') return reportMistake(context, parsed.message, 'init');
  return parsed.isRemoval ? remove(parsed, context) : add(parsed, context);
};

interface InitArguments {
  readonly kind: 'parsed';
  readonly configFile: string | undefined;
  readonly store: Store | undefined;
  readonly mode: 'ask' | 'yes' | 'dry-run';
  readonly isRemoval: boolean;
}

async function add(args: InitArguments, context: CommandContext): Promise<number> {
  const prepared = await prepareInit({ ...args, version: readVersion() });
  if (prepared.kind === 'refused') return reportRefusal(prepared, context);
  const { plan, edits } = prepared;
  const intro = [...plan.found, ...plan.warnings.map(asWarning)];
  return finish({ edits, intro, next: nextSteps(plan, edits) }, args, context);
}

function asWarning(text: string): string {
  return `Warning: ${text}`;
}

async function remove(args: InitArguments, context: CommandContext): Promise<number> {
  const prepared = await prepareRemoval(args.configFile);
  if (prepared.kind === 'refused') return reportRefusal(prepared, context);
  const { edits, warnings } = prepared;
  const intro = edits.length > 0 ? warnings.map(asWarning) : [];
  return finish({ edits, intro, next: 'Next: fly deploy\n' }, args, context);
}

interface Outcome {
  readonly edits: readonly Edit[];
  /** Lines that come first. */
  readonly intro: readonly string[];
  /** What to do once the edits are written. */
  readonly next: string;
}

async function finish(
  { edits, intro, next }: Outcome,
  { mode }: InitArguments,
  context: CommandContext,
): Promise<number> {
  const { stdout, stderr } = context;
  await print(stdout, intro.map((line) => `${line}\n`).join(''));
  if (edits.length === 0) {
    await print(stdout, 'Nothing to change.\n');
    return 0;
  }
  await print(stdout, `${intro.length > 0 ? '\n' : ''}${showEdits(edits)}\n`);
  if (mode === 'dry-run') {
    await print(stdout, 'Nothing was written.\n');
    return 0;
  }
  if (mode === 'ask' && !(await isConfirmed(context))) return EXIT_FAILURE;
  const failure = await writeEdits(edits);
  if (failure !== undefined) {
    stderr.write(`fly-affinity init: ${failure}\n`);
    return EXIT_FAILURE;
  }
  await print(stdout, `Written: ${edits.map(({ path }) => path).join(', ')}.\n\n${next}`);
  return 0;
}

function reportRefusal({ why, byHand }: Refusal, { stderr }: CommandContext): number {
  const lines = [`fly-affinity init: ${why} Nothing was written.`, ...byHand];
  stderr.write(`${lines.join('\n')}\n`);
  return EXIT_FAILURE;
}

function nextSteps({ store, changes }: InitPlan, edits: readonly Edit[]): string {
  const config = edits.find(({ path }) => !/dockerfile/i.test(path))?.path;
  const hasMount = changes.some(({ path }) => path[0] === 'mounts');
  const steps = [
    ...(hasMount
      ? [
          'fly volumes create sessions --region REGION --count N   # for Machines that exist: one for each',
        ]
      : []),
    ...(store.kind === 'shared'
      ? ['fly secrets set FLY_AFFINITY_SESSION_STORE_URL=...      # redis:// or postgres://']
      : []),
    'fly deploy',
    'fly scale count 2',
    `fly-affinity doctor${config === undefined || config === 'fly.toml' ? '' : ` --config ${config}`}`,
  ];
  return `Next:\n${steps.map((step) => `  ${step}\n`).join('')}Undo: fly-affinity init --remove\n`;
}

type Parsed = InitArguments | { readonly kind: 'mistake'; readonly message: string };

function parseInitArguments(args: readonly string[]): Parsed {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', short: 'c' },
        store: { type: 'string' },
        yes: { type: 'boolean', short: 'y', default: false },
        'dry-run': { type: 'boolean', default: false },
        remove: { type: 'boolean', default: false },
      },
    });
    const store = STORES.find((each) => each === values.store);
    if (values.store !== undefined && store === undefined) {
      return mistake(
        `--store must be one of ${STORES.join(', ')}, got ${JSON.stringify(values.store)}`,
      );
    }
    if (values.config === '') return mistake('--config needs a file');
    if (values.yes && values['dry-run']) return mistake('--yes and --dry-run exclude each other');
    if (values.remove && store !== undefined)
      return mistake('--remove and --store exclude each other');
    const mode = values['dry-run'] ? 'dry-run' : values.yes ? 'yes' : 'ask';
    return { kind: 'parsed', configFile: values.config, store, mode, isRemoval: values.remove };
  } catch (error) {
    return mistake(messageOf(error));
  }
}

function mistake(message: string): Parsed {
  return { kind: 'mistake', message };
}

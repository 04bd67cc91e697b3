/** Prepares what `init` writes: the texts of both files, before and after. Writes nothing. */
import { dirname, relative, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parseConfigText, readConfigFile, type ConfigFile } from '../doctor/config-file.ts';
import { errorCodeOf } from '../doctor/probe.ts';
import { readTextFile } from '../doctor/text-file.ts';
import { CannotEdit } from './cannot-edit.ts';
import { editConfig } from './config-edit.ts';
import { addSidecar } from './dockerfile-edit.ts';
import { withoutMarks } from './marks.ts';
import { planInit, type InitPlan } from './plan.ts';
import { pristine } from './pristine.ts';
import { refuse, refuseConfig, refuseWithoutDockerfile, type Refusal } from './refusals.ts';
import type { Store } from './stores.ts';

interface InitOptions {
  /** Undefined: the one in this directory. */
  readonly configFile: string | undefined;
  /** Undefined: what is in use, or the best. */
  readonly store: Store | undefined;
  /** Of fly-affinity. */
  readonly version: string;
}

export interface Edit {
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

interface Prepared {
  readonly kind: 'prepared';
  /** Only those that change something. */
  readonly edits: readonly Edit[];
  readonly plan: InitPlan;
}

export async function prepareInit(options: InitOptions): Promise<Prepared | Refusal> {
  const files = await readFiles(options.configFile);
  if (files.kind === 'refused') return files;
  const { config, original, dockerfile } = files;
  if (!dockerfile) {
    return (
      refuseConfig(original.toml) ?? refuseWithoutDockerfile(original.toml, files.dockerfilePath)
    );
  }
  const store = options.store ?? storeInUse(config, original);
  const plan = planInit(original, withoutMarks(dockerfile.text), store);
  if (plan.kind === 'refused') return plan;
  try {
    const after = await editedConfig(config, original, plan);
    const image = addSidecar(plan.dockerfile, {
      ...plan,
      ...plan.commands,
      version: options.version,
    });
    return {
      ...{ kind: 'prepared', plan },
      edits: changed([
        { path: config.path, before: config.text, after },
        { path: dockerfile.path, before: dockerfile.text, after: image },
      ]),
    };
  } catch (failure) {
    if (!(failure instanceof CannotEdit)) throw failure;
    return refuse(`Could not edit ${config.path}: ${failure.message}.`);
  }
}

/** A JSON file has no marks: what is right already keeps its place. */
async function editedConfig(
  config: ConfigFile,
  original: ConfigFile,
  { changes }: InitPlan,
): Promise<string> {
  const edited = await editConfig(original, changes);
  const parsed = await parseConfigText(config.path, edited);
  const isSame =
    parsed.kind === 'parsed' &&
    config.path.endsWith('.json') &&
    isDeepStrictEqual(parsed.values, config.values);
  return isSame ? config.text : edited;
}

function changed(edits: readonly Edit[]): Edit[] {
  return edits.filter(({ before, after }) => before !== after);
}

/** What an earlier `init` chose; undefined: there was none. */
function storeInUse(config: ConfigFile, original: ConfigFile): Store | undefined {
  const { env, mounts } = config.toml;
  if (env.FLY_AFFINITY_UPSTREAM_URL === undefined) return undefined;
  if (original.toml.env.FLY_AFFINITY_UPSTREAM_URL !== undefined) return undefined;
  if (env.FLY_AFFINITY_SESSION_STORE_URL !== undefined) return 'memory';
  if (mounts.length > original.toml.mounts.length) return 'volume';
  return env.FLY_AFFINITY_SESSION_STORE_PATH === undefined ? 'shared' : 'existing';
}

interface Removal {
  readonly kind: 'prepared';
  readonly edits: readonly Edit[];
  /** What a person has to know. */
  readonly warnings: readonly string[];
}

export async function prepareRemoval(configFile: string | undefined): Promise<Removal | Refusal> {
  const files = await readFiles(configFile);
  if (files.kind === 'refused') return files;
  const { config, original, dockerfile, leftover } = files;
  const edits = changed([
    { path: config.path, before: config.text, after: original.text },
    ...(dockerfile
      ? [{ ...dockerfile, before: dockerfile.text, after: withoutMarks(dockerfile.text) }]
      : []),
  ]).map(({ path, before, after }) => ({ path, before, after }));
  const hasOwnVolume = config.toml.mounts.length > original.toml.mounts.length;
  return {
    ...{ kind: 'prepared', edits },
    warnings: [
      ...(leftover === undefined ? [] : [leftover]),
      ...(hasOwnVolume
        ? [
            'The next fly deploy asks whether to detach the volumes named sessions. They are kept until you destroy them with fly volumes destroy. If the app has put files there, keep [mounts].',
          ]
        : []),
    ],
  };
}

interface Files {
  readonly kind: 'files';
  readonly config: ConfigFile;
  /** Without the edits of an earlier `init`. */
  readonly original: ConfigFile;
  readonly leftover: string | undefined;
  readonly dockerfilePath: string;
  readonly dockerfile: { readonly path: string; readonly text: string } | undefined;
}

async function readFiles(named: string | undefined): Promise<Files | Refusal> {
  const read = await readConfigFile(named);
  switch (read.kind) {
    case 'absent':
      return refuse('There is no fly.toml, fly.json or fly.yaml in this directory.', [
        'Run init where you deploy the app from, or name the file with --config. fly launch writes one.',
      ]);
    case 'unreadable':
      return refuse(`Could not read ${read.path} (${read.reason}).`);
    case 'mistake':
      return refuse(`${read.path} has a mistake: ${read.reason}.`);
    case 'read':
      return filesOf(read.file);
  }
}

async function filesOf(config: ConfigFile): Promise<Files | Refusal> {
  const found = await pristine(config);
  if (!found) {
    return refuse(`${config.path} is not valid without the lines that init added.`, [
      'Lines with a comment "# fly-affinity" were changed by hand: take them out by hand.',
    ]);
  }
  const { file: original, leftover } = found;
  const dockerfile = await readDockerfile(original);
  return dockerfile.kind === 'refused' ? dockerfile : { ...dockerfile, config, original, leftover };
}

type DockerfileOnly = Pick<Files, 'kind' | 'dockerfile' | 'dockerfilePath'>;

async function readDockerfile({
  path: configPath,
  toml,
}: ConfigFile): Promise<DockerfileOnly | Refusal> {
  const { dockerfile: named, image, builder } = toml.build;
  // In flyctl's order.
  const names = named === undefined ? ['Dockerfile', 'dockerfile'] : [named];
  const paths = names.map((name) => relative('.', resolve(dirname(configPath), name)));
  const none: DockerfileOnly = {
    ...{ kind: 'files', dockerfilePath: paths[0] ?? '', dockerfile: undefined },
  };
  // flyctl builds none then.
  if (image !== undefined || builder !== undefined) return none;
  for (const path of paths) {
    try {
      return { ...none, dockerfile: { path, text: await readTextFile(path) } };
    } catch (failure) {
      const reason = errorCodeOf(failure);
      if (reason !== 'ENOENT') return refuse(`Could not read ${path} (${reason}).`);
    }
  }
  return none;
}

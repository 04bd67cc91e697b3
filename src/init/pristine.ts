/** A configuration file as it was before `init`, with what people have changed since then. */
import { extname } from 'node:path';
import { isTable, valueAt, type ValuePath } from '../doctor/change.ts';
import { parseConfigText, type ConfigFile } from '../doctor/config-file.ts';
import { RUN } from './dockerfile-edit.ts';
import { removeFromJson, setInJson } from './json-edit.ts';
import { hasMarks, withoutMarks } from './marks.ts';

interface Pristine {
  readonly file: ConfigFile;
  /** What can't be undone in a file without comments. A sentence; undefined: nothing. */
  readonly leftover: string | undefined;
}

/** Undefined if the file without the edits of `init` is not valid. */
export async function pristine(file: ConfigFile): Promise<Pristine | undefined> {
  const isJson = extname(file.path) === '.json';
  if (isJson ? !isEdited(file) : !hasMarks(file.text)) return { file, leftover: undefined };
  const text = isJson ? withoutSettings(file) : withoutMarks(file.text);
  const parsed = await parseConfigText(file.path, text);
  if (parsed.kind === 'mistake') return undefined;
  const { toml, values } = parsed;
  return { file: { path: file.path, text, values, toml }, leftover: isJson ? LEFTOVER : undefined };
}

const LEFTOVER =
  'JSON has no comments to keep old values: kill_timeout, auto_stop_machines, concurrency, http_options and deploy.strategy stay as they are, which does no harm without the sidecar. mounts stay, too: take them out if nothing but the sidecar has used the volume.';

function isEdited({ toml }: ConfigFile): boolean {
  return toml.env.FLY_AFFINITY_UPSTREAM_URL !== undefined;
}

const OWN_SETTINGS = [
  ...['PORT', 'UPSTREAM_URL', 'HOST', 'LOG_LEVEL', 'PEER_PORT', 'ADMIN_PORT'],
  ...['SESSION_STORE_PATH', 'SESSION_STORE_URL'],
].map((name) => `FLY_AFFINITY_${name}`);

/** By what the settings say: a JSON file has no marks. */
function withoutSettings({ text, toml, values }: ConfigFile): string {
  const { env } = toml;
  const appPort = Number(new URL(env.FLY_AFFINITY_UPSTREAM_URL ?? '').port);
  let edited = text;
  for (const { path, internalPort } of toml.services) {
    if (String(internalPort) !== env.FLY_AFFINITY_PORT) continue;
    edited = setInJson(edited, { path: [...path, 'internal_port'], value: appPort });
  }
  const prefix = new RegExp(`^${RUN.join(' ')} (env PORT=\\d+ )?`);
  for (const [group, command] of Object.entries(toml.commands)) {
    if (!prefix.test(command)) continue;
    const value = command.replace(prefix, '');
    edited = setInJson(edited, { path: ['processes', group], value });
  }
  const removed = [...ownSections(toml, values), ...OWN_SETTINGS.map((name) => ['env', name])];
  return removed.reduce(removeFromJson, edited);
}

/** A mount is none of them: the volume may have become the app's. */
function ownSections({ env, checks }: ConfigFile['toml'], values: unknown): ValuePath[] {
  const adminPort = Number(env.FLY_AFFINITY_ADMIN_PORT ?? 9091);
  const isOwnMetrics = (metrics: unknown): boolean =>
    isTable(metrics) && metrics.port === adminPort;
  return [
    ...checks
      .filter(({ port, path }) => port === adminPort && path === '/readyz')
      .map(({ name = '' }) => ['checks', name]),
    ...pathsOf(values, 'metrics', isOwnMetrics),
  ];
}

/** Of a table, or of those in a list. */
function pathsOf(values: unknown, key: string, isOwn: (value: unknown) => boolean): ValuePath[] {
  const value = valueAt(values, [key]);
  if (!Array.isArray(value)) return isOwn(value) ? [[key]] : [];
  return value.flatMap((item, index) => (isOwn(item) ? [[key, index]] : [])).reverse();
}

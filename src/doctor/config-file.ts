/** The configuration file of a Fly.io app: `fly.toml`, `fly.json` or `fly.yaml`, which have the same keys. */
import { basename, extname } from 'node:path';
import { isTable } from './change.ts';
import { parseFlyToml, readFlyValues, type FlyToml, type ParsedFlyToml } from './fly-toml.ts';
import { errorCodeOf } from './probe.ts';
import { type Finding, error, note, ok } from './report.ts';
import { readTextFile } from './text-file.ts';

export interface ConfigFile {
  readonly path: string;
  readonly text: string;
  readonly values: Readonly<Record<string, unknown>>;
  readonly toml: FlyToml;
}

type ReadConfigFile =
  | { readonly kind: 'read'; readonly file: ConfigFile }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreadable'; readonly path: string; readonly reason: string }
  /** `reason`: repeats nothing of the file. */
  | { readonly kind: 'mistake'; readonly path: string; readonly reason: string };

/** In flyctl's order. */
const DEFAULT_FILES = ['fly.toml', 'fly.json', 'fly.yaml'] as const;

/** `named`: the path that the operator gave, which must exist; a default file is optional. */
export async function readConfigFile(named: string | undefined): Promise<ReadConfigFile> {
  for (const path of named === undefined ? DEFAULT_FILES : [named]) {
    try {
      return await parsed(path, await readTextFile(path));
    } catch (failure) {
      const reason = errorCodeOf(failure);
      if (reason !== 'ENOENT' || named !== undefined) return { kind: 'unreadable', path, reason };
    }
  }
  return { kind: 'absent' };
}

async function parsed(path: string, text: string): Promise<ReadConfigFile> {
  const result = await parseConfigText(path, text);
  if (result.kind === 'mistake') return { kind: 'mistake', path, reason: result.mistake };
  return { kind: 'read', file: { path, text, values: result.values, toml: result.toml } };
}

/** `path`: its extension names the format, as for flyctl. */
export async function parseConfigText(path: string, text: string): Promise<ParsedFlyToml> {
  switch (extname(path)) {
    case '.json':
      return parsedFrom(parseJson(text), 'not valid JSON');
    case '.yaml': {
      const { parse } = await import('yaml');
      return parsedFrom(
        attempt(() => parse(text) as unknown),
        'not valid YAML',
      );
    }
    default:
      return parseFlyToml(text.replace(/^\uFEFF/, ''));
  }
}

function parseJson(text: string): unknown {
  return attempt(() => JSON.parse(text) as unknown);
}

function attempt(parse: () => unknown): unknown {
  try {
    return parse();
  } catch {
    // The caller says that it is not valid; the parser's own message repeats parts of the file.
    return undefined;
  }
}

function parsedFrom(values: unknown, mistake: string): ParsedFlyToml {
  if (!isTable(values)) return { kind: 'mistake', mistake };
  return { kind: 'parsed', toml: readFlyValues(values), values };
}

/** What the doctor says about the file as such. */
export function checkFile(read: ReadConfigFile): Finding[] {
  switch (read.kind) {
    case 'absent':
      return [
        note(
          'There is no fly.toml in this directory.',
          'Not checked: how Fly.io deploys, stops and reaches the Machines. Images rarely contain the file.',
          'run fly-affinity doctor --config FILE where you deploy the app from',
        ),
      ];
    case 'unreadable':
      return [
        error(
          `Could not read ${read.path} (${read.reason}).`,
          'The file was not checked.',
          'give the path of fly.toml with --config',
        ),
      ];
    case 'mistake':
      return [error(`${read.path}, ${read.reason}.`, 'Fly.io rejects the file.')];
    case 'read': {
      const { path, toml } = read.file;
      if (toml.typeErrors.length === 0) return [ok(`${path} is valid.`)];
      return toml.typeErrors.map((text) => error(`${text}.`, 'Fly.io rejects the file.'));
    }
  }
}

/** Findings speak of fly.toml: names the file that it is. */
export function namesFile(path: string): (text: string) => string {
  return (text) => text.replaceAll('fly.toml', basename(path));
}

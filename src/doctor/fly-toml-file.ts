/** Reads the `fly.toml` that is to be looked at. */
import { readFile } from 'node:fs/promises';
import { error, note, ok, type Finding } from './finding.ts';
import { parseFlyToml, type FlyToml } from './fly-toml.ts';

export interface ReadFlyToml {
  /** Undefined: there is none, or it can't be read. */
  readonly toml: FlyToml | undefined;
  readonly findings: readonly Finding[];
}

const DEFAULT_FILE = 'fly.toml';

/** `named`: by the operator; one that is not named need not be there. */
export async function readFlyToml(named: string | undefined): Promise<ReadFlyToml> {
  const path = named ?? DEFAULT_FILE;
  try {
    return readText(path, await readFile(path, 'utf8'));
  } catch (failure) {
    const code =
      failure instanceof Error && 'code' in failure ? String(failure.code) : 'unreadable';
    if (code === 'ENOENT' && named === undefined) return { toml: undefined, findings: [noFile()] };
    const instead = 'the path of fly.toml after --config';
    const finding = error(`${path} can not be read (${code}).`, 'It was not looked at.', instead);
    return { toml: undefined, findings: [finding] };
  }
}

function noFile(): Finding {
  return note(
    'There is no fly.toml in this directory.',
    'How Machines are deployed, stopped and reached was not looked at. An image seldom has the file.',
    'fly-affinity doctor --config FILE, where the app is deployed from',
  );
}

function readText(path: string, text: string): ReadFlyToml {
  const parsed = parseFlyToml(text);
  if (parsed.kind === 'mistake') {
    const finding = error(`${path}, ${parsed.mistake}.`, 'Fly.io refuses the file.');
    return { toml: undefined, findings: [finding] };
  }
  const { toml } = parsed;
  const misfits = toml.misfits.map((misfit) => error(`${misfit}.`, 'Fly.io refuses the file.'));
  return { toml, findings: misfits.length > 0 ? misfits : [ok(`${path} can be read.`)] };
}

/** Edits a configuration file as text, and checks by parsing that the result is what was meant. */
import { extname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { leavesOf, valueAt, withChanges, type Change } from '../doctor/change.ts';
import { parseConfigText, type ConfigFile } from '../doctor/config-file.ts';
import { CannotEdit } from './cannot-edit.ts';
import { setInJson } from './json-edit.ts';
import { setInToml } from './toml-edit.ts';

/** Rejects with {@link CannotEdit}. What has its value already stays as it is. */
export async function editConfig(
  { path, text, values }: Pick<ConfigFile, 'path' | 'text' | 'values'>,
  changes: readonly Change[],
): Promise<string> {
  const set = await setterFor(path);
  let [edited, expected] = [text, plain(values)];
  for (const leaf of changes.flatMap(leavesOf)) {
    if (isDeepStrictEqual(valueAt(expected, leaf.path), leaf.value)) continue;
    edited = set(edited, expected, leaf);
    expected = withChanges(expected, [leaf]);
    const parsed = await parseConfigText(path, edited);
    const isAsMeant = parsed.kind === 'parsed' && isDeepStrictEqual(plain(parsed.values), expected);
    if (!isAsMeant) throw new CannotEdit(leaf.path, 'the file is written in an unusual way');
  }
  return edited;
}

/** Parsers make objects without a prototype. */
function plain<Values>(values: Values): Values {
  return structuredClone(values);
}

type Setter = (text: string, values: unknown, change: Change) => string;

async function setterFor(path: string): Promise<Setter> {
  switch (extname(path)) {
    case '.json':
      return (text, _, change) => setInJson(text, change);
    case '.yaml': {
      const { setInYaml } = await import('./yaml-edit.ts');
      return (text, _, change) => setInYaml(text, change);
    }
    default:
      return setInToml;
  }
}

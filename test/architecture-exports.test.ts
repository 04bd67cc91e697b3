/** An export says "used elsewhere": a reader may rely on it. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

/** What `cli/command.ts` asks of the file of a command. */
const OF_EACH_COMMAND: ReadonlySet<string> = new Set(['USAGE', 'execute', 'operands']);

const EXPORT =
  /^export (?:async )?(?:const|let|function\*?|class|abstract class|interface|type) (\w+)/gm;

const FILES = globSync(['src/**/*.ts', 'test/**/*.ts']).map((name) => {
  const text = readFileSync(name, 'utf8');
  return { name, text, words: new Set(text.match(/\w+/g)) };
});

test('every export is named in another file, of the source or of the tests', () => {
  const fileCounts = new Map<string, number>();
  for (const { words } of FILES)
    for (const word of words) fileCounts.set(word, (fileCounts.get(word) ?? 0) + 1);

  const unused = FILES.flatMap(({ name, text }) =>
    [...text.matchAll(EXPORT)]
      .map(([, exported = '']) => exported)
      .filter((exported) => !(name.startsWith('src/cli/') && OF_EACH_COMMAND.has(exported)))
      .filter((exported) => (fileCounts.get(exported) ?? 0) < 2)
      .map((exported) => `${name}: ${exported}`),
  );
  assert.deepEqual(unused, []);
});

/** Compares an example of the documentation with what the command prints. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Scene } from './scenes.ts';
import { readShown } from './shown.ts';
import { withoutVarying } from './varying.ts';

/** A test for each of these commands. */
export function compareWithDocs(scenes: ReadonlyMap<string, Scene>): void {
  const shown = readShown();
  for (const [command, scene] of scenes) {
    test(`the documentation shows what "${command}" prints`, async (t) => {
      const examples = shown.filter((example) => example.command === command);
      assert.ok(examples.length > 0, 'no page has this example');
      const printed = withoutVarying(await scene(t, command));
      // Blocks end with one line break, whatever the output ends with.
      const expected = printed.replace(/\n*$/, '\n');
      for (const { page, output } of examples)
        assert.equal(withoutVarying(output), expected, `src/docs/${page}.md`);
    });
  }
}

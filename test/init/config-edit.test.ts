/** Edits of configuration files: what else is in them stays, byte for byte. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'smol-toml';
import type { Change } from '../../src/doctor/change.ts';
import { parseConfigText } from '../../src/doctor/config-file.ts';
import { CannotEdit } from '../../src/init/cannot-edit.ts';
import { editConfig } from '../../src/init/config-edit.ts';
import { BEGIN, withoutMarks } from '../../src/init/marks.ts';
import '../support/property-seed.ts';

async function edit(path: string, text: string, changes: readonly Change[]): Promise<string> {
  const parsed = await parseConfigText(path, text);
  assert.ok(parsed.kind === 'parsed');
  return editConfig({ path, text, values: parsed.values }, changes);
}

const set = (path: string, value: Change['value']): Change => ({
  path: path.split('.').map((key) => (/^\d+$/.test(key) ? Number(key) : key)),
  value,
});
const PORT = set('http_service.internal_port', 8080);

for (const [name, before, change, after] of [
  [
    'a value',
    '[http_service]\ninternal_port = 1',
    PORT,
    '[http_service]\ninternal_port = 8080 # fly-affinity: was 1',
  ],
  [
    'a value with a comment',
    "[http_service]\n  internal_port=1# it's\n",
    PORT,
    "[http_service]\n  internal_port=8080 # fly-affinity: was 1# it's\n",
  ],
  [
    'a key that is quoted',
    '[http_service]\n"internal_port" = 1\n',
    PORT,
    '[http_service]\n"internal_port" = 8080 # fly-affinity: was 1\n',
  ],
  [
    'a table that is quoted',
    "['http_service']\ninternal_port = 1\n",
    PORT,
    "['http_service']\ninternal_port = 8080 # fly-affinity: was 1\n",
  ],
  [
    'a dotted key',
    'http_service.internal_port = 1\n',
    PORT,
    'http_service.internal_port = 8080 # fly-affinity: was 1\n',
  ],
  [
    'a value within an inline table',
    'http_service = { internal_port = 1, x = "}" } # y\n',
    PORT,
    'http_service = { internal_port = 8080, x = "}" } # fly-affinity: was { internal_port = 1, x = "}" } # y\n',
  ],
  [
    'text that looks like a table',
    '[a]\nb = """\n[http_service]\ninternal_port = 1 # "\n"""\nc = [ # ]\n  "]",\n]\n[http_service]\ninternal_port = 1\n',
    PORT,
    '[a]\nb = """\n[http_service]\ninternal_port = 1 # "\n"""\nc = [ # ]\n  "]",\n]\n[http_service]\ninternal_port = 8080 # fly-affinity: was 1\n',
  ],
  [
    'lines of Windows',
    'app = "a"\r\n[env]\r\n  A = "b"\r\n',
    set('env.C', 'd'),
    'app = "a"\r\n[env]\r\n  A = "b"\r\n  C = "d" # fly-affinity\r\n',
  ],
  [
    'a table without keys',
    '[env]\n\n[[vm]]\nsize = "x"\n',
    set('env.C', 'd'),
    '[env]\nC = "d" # fly-affinity\n\n[[vm]]\nsize = "x"\n',
  ],
  [
    'a file without keys of its own',
    '# a\n[env]\n',
    set('kill_timeout', '35s'),
    '# a\nkill_timeout = "35s" # fly-affinity\n[env]\n',
  ],
  [
    'an element of a list',
    '[[services]]\n  internal_port = 1\n[[services]]\n  internal_port = 2\n[[vm]]\n',
    set('services.0.concurrency.type', 'requests'),
    '[[services]]\n  internal_port = 1\n# fly-affinity: begin (fly-affinity init --remove undoes this)\n# An open stream counts as a request as long as it lives.\n[services.concurrency]\n  type = "requests"\n# fly-affinity: end\n[[services]]\n  internal_port = 2\n[[vm]]\n',
  ],
] as const) {
  test(`TOML: sets ${name}, and brings it back`, async () => {
    const edited = await edit('fly.toml', before, [change]);
    assert.equal(edited, after);
    assert.equal(withoutMarks(edited), before);
  });
}

test('TOML: a value that is right stays, whatever its spelling', async () => {
  const text = "[http_service]\ninternal_port = 0x1F90\n[env]\nA = '''b'''\n";
  assert.equal(await edit('fly.toml', text, [PORT, set('env.A', 'b')]), text);
});

test('TOML: a value that is set twice keeps what it was at first', async () => {
  const text = '[http_service]\ninternal_port = 1\n';
  const once = await edit('fly.toml', text, [PORT]);
  const twice = await edit('fly.toml', once, [set('http_service.internal_port', 9)]);
  assert.equal(twice, '[http_service]\ninternal_port = 9 # fly-affinity: was 1\n');
});

for (const [path, text] of [
  ['fly.toml', 'kill_timeout = """\n5s"""\n'],
  ['fly.toml', 'kill_timeout.x = 1\n'],
  ['fly.yaml', 'kill_timeout: |\n  5s\n'],
  ['fly.yaml', '{ app: a }\n'],
] as const) {
  test(`refuses what it can't edit: ${JSON.stringify(text)}`, async () => {
    await assert.rejects(edit(path, text, [set('kill_timeout', '35s')]), CannotEdit);
  });
}

const YAML = `# mine
app: a
env: # settings
  LOG_LEVEL: 'debug' # b

http_service:
  internal_port: 1 # c
  checks:
  - path: /
    port: 2
services:
  -   internal_port: 3
      ports:
        - port: 4
# end
`;

test('YAML: sets and adds values, and brings the text back', async () => {
  const edited = await edit('fly.yaml', YAML, [
    PORT,
    set('env.FLY_AFFINITY_PORT', '8080'),
    set('http_service.http_options.idle_timeout', 3600),
    set('services.0.concurrency', { type: 'requests', hard_limit: 5 }),
    set('checks.ready', { port: 1, processes: ['web', 'api'] }),
  ]);
  assert.match(edited, /\n {2}internal_port: 8080 # fly-affinity: was 1 # c\n/);
  assert.match(edited, /\n {2}FLY_AFFINITY_PORT: "8080" # fly-affinity\n/);
  assert.match(edited, /\n {6}concurrency: # fly-affinity\n {8}type: requests # fly-affinity\n/);
  assert.match(edited, /\n {4}processes: \[ web, api \] # fly-affinity\n# end\n$/);
  assert.equal(withoutMarks(edited), YAML);
});

test('JSON: keeps the way in which the file is written', async () => {
  const text =
    '{\n\t"app": "a",\n\t"env": {},\n\t"http_service": {"internal_port": 1, "x": [1, "]"]}\n}\n';
  const edited = await edit('fly.json', text, [PORT, set('env.A', 'b'), set('vm.0.memory', '1gb')]);
  assert.equal(
    edited,
    '{\n\t"app": "a",\n\t"env": {\n\t\t"A": "b"\n\t},\n\t"http_service": {"internal_port": 8080, "x": [1, "]"]},\n\t"vm": [\n\t\t{\n\t\t\t"memory": "1gb"\n\t\t}\n\t]\n}\n',
  );
});

const key = fc.constantFrom('a', 'b', 'a b', 'c.d', '#', 'é');
const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean());
const { table } = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
  table: fc.dictionary(key, tie('value'), { maxKeys: 4 }),
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(scalar, { maxLength: 3 }),
    tie('table'),
    fc.array(tie('table'), { minLength: 1, maxLength: 3 }),
  ),
}));

const keys = fc.array(key, { minLength: 1, maxLength: 3 });
const change = fc.oneof(
  fc.record({ path: keys, value: fc.oneof(fc.string(), fc.integer()) }),
  // A table that init adds: others within its block count as written by people.
  keys.map((path) => ({ path: [...path, 'http_options', 'idle_timeout'], value: 3600 })),
);

test('any TOML: an edit makes the change and no other, or is refused; without its marks the text is as before', async () => {
  await fc.assert(
    fc.asyncProperty(table, change, async (values, each) => {
      const text = `${stringify(values)}\n`;
      try {
        // editConfig compares what it made with what was meant.
        const edited = await edit('fly.toml', text, [each]);
        const isOwn = each.value === 3600 || !edited.includes(BEGIN);
        if (isOwn) assert.equal(withoutMarks(edited), text);
      } catch (error) {
        if (!(error instanceof CannotEdit)) throw error;
      }
    }),
  );
});

/** `fly-affinity doctor` as a whole: its output and its exit code. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { parseFlyToml } from '../../src/doctor/fly-toml.ts';
import { createPlace } from '../store/place.ts';
import { findingsIn, runDoctor } from './doctor/support.ts';
import { run } from './program.ts';

/** The settings of `program.ts` for sidecars, back to the defaults. */
const UNSET = { HOST: '', PORT: '', PEER_PORT: '', ADMIN_PORT: '', SESSION_STORE_URL: '' };

async function writeToml(t: TestContext, text: string): Promise<string> {
  const path = (await createPlace(t)).path('fly.toml');
  await writeFile(path, text);
  return path;
}

test("the project's own fly.toml has no findings, and the program ends with code 0", async (t) => {
  const { code, output, errors } = await run(t, { args: ['doctor'], env: UNSET });
  assert.equal(code, 0, output);
  assert.equal(errors, '');
  assert.match(output, /^ {2}note {5}The doctor does not run on a Fly\.io Machine/);
  assert.match(output, /\n0 errors, 0 warnings, 2 notes\. More with --all\.\n$/);
});

test('an error ends the program with code 1, with the reason and the fix', async (t) => {
  const path = await writeToml(t, 'kill_timeout = 5\n[http_service]\ninternal_port = 3000\n');
  const { code, output } = await run(t, { args: ['doctor', '--config', path], env: UNSET });
  assert.equal(code, 1);
  assert.match(
    output,
    / {2}error {4}internal_port of http_service is 3000, where the app listens\.\n {11}Requests bypass .*\n {11}Try:\n {13}\[http_service\]\n {15}internal_port = 8080\n/,
  );
  assert.match(output, / {11}Try: kill_timeout = "35s"\n/);
});

test("the suggested replay cache belongs to the section of the file's service", async (t) => {
  const ports = '[[services.ports]]\nport = 443\nhandlers = ["tls", "http"]\n';
  const text = `kill_timeout = 35\n[[services]]\ninternal_port = 8080\n${ports}`;
  const { output } = await runDoctor(['--json', '-c', await writeToml(t, text)], {});
  const { findings } = JSON.parse(output) as {
    findings: { group: string; instead?: string }[];
  };
  const lines = findings.find(({ group }) => group === 'Replay cache')?.instead ?? '';
  const parsed = parseFlyToml(text + lines);
  assert.ok(parsed.kind === 'parsed');
  const caches = parsed.toml.services.map(({ section, replayCaches }) => [
    section,
    replayCaches.map(({ name }) => name),
  ]);
  assert.deepEqual(caches, [['services', ['mcp-session-id', 'x-session-id']]]);
});

test('an app on another host is one warning, and one on the address of this Machine is none', async () => {
  const elsewhere = await runDoctor([], { UPSTREAM_URL: 'http://app.internal:3000' });
  assert.match(elsewhere.output, /\n0 errors, 1 warning, /);
  assert.match(
    elsewhere.output,
    /UPSTREAM_URL is http:\/\/app\.internal:3000, which is not this Machine/,
  );
  const here = await runDoctor([], { UPSTREAM_URL: 'http://fly-local-6pn:3000' });
  assert.match(here.output, /\n0 errors, 0 warnings, /);
});

test('a fly.json and a fly.yaml are checked like a fly.toml', async (t) => {
  const place = await createPlace(t);
  for (const [name, text] of [
    ['fly.json', '{"kill_timeout": "35s", "http_service": {"internal_port": 3000}}'],
    ['fly.yaml', 'kill_timeout: 35s\nhttp_service:\n  internal_port: 3000\n'],
  ] as const) {
    await writeFile(place.path(name), text);
    const ran = await runDoctor(['--json', '--config', place.path(name)], {});
    const found = findingsIn(ran, 'fly.toml');
    assert.ok(found.includes(`ok: ${place.path(name)} is valid.`), ran.output);
    assert.ok(
      found.includes('error: internal_port of http_service is 3000, where the app listens.'),
    );
    assert.match(ran.output, new RegExp(`but ${name.replace('.', '\\.')} has no \\[mounts\\]`));
  }
  await writeFile(place.path('fly.json'), '{"env": {"TOKEN": s3cret}}');
  const broken = await runDoctor(['--json', '--config', place.path('fly.json')], {});
  assert.equal(broken.code, 1);
  assert.ok(
    broken.output.includes('fly.json, not valid JSON.') && !broken.output.includes('s3cret'),
  );
});

test('warnings alone end it with code 0', async () => {
  const { code, output } = await runDoctor([], { HOST: '127.0.0.1' });
  assert.match(output, /\n0 errors, 1 warning, 2 notes\. More with --all\.\n$/);
  assert.equal(code, 0);
});

test('with --json it prints one object, with the same code', async (t) => {
  const path = await writeToml(t, 'kill_timeout = 5\n');
  const { code, output } = await run(t, {
    args: ['doctor', '--json', '-c', path],
    env: UNSET,
  });
  assert.equal(code, 1);
  const report = JSON.parse(output) as Readonly<Record<string, unknown>>;
  assert.equal(report.ok, false);
  const { error, warning } = report.counts as Readonly<Record<string, number>>;
  assert.deepEqual([error, warning], [2, 1]);
  assert.deepEqual((report.findings as unknown[]).slice(0, 3), [
    (report.findings as unknown[])[0],
    { group: 'Settings', level: 'ok', what: 'All settings are valid.' },
    { group: 'fly.toml', level: 'ok', what: `${path} is valid.` },
  ]);
});

test('invalid settings are errors, and the rest is checked with their defaults', async () => {
  const env = { PORT: '80a', REPLAY_TIMEOUT_MS: 'soon', PEER_PORT: '9091' };
  const ran = await runDoctor(['--json'], env);
  assert.equal(ran.code, 78);
  assert.deepEqual(
    findingsIn(ran, 'Settings').filter((finding) => finding.startsWith('error')),
    [
      'error: PORT must be a port number from 0 to 65535, got "80a".',
      'error: REPLAY_TIMEOUT_MS must be a duration such as 10m, 600s or 250ms, or a whole number of milliseconds from 1 to 300000, got "soon".',
      'error: PEER_PORT and ADMIN_PORT must differ, both are 9091.',
    ],
  );
  const file = findingsIn(ran, 'fly.toml');
  assert.ok(file.includes('ok: Fly Proxy sends requests to the sidecar (8080).'));
});

test('outside Fly.io the settings are those of the file, overridden by those of the shell', async (t) => {
  const path = await writeToml(
    t,
    '[env]\nPORT = "8000"\nDRAIN_TIMEOUT_MS = "1000"\nSTOP_TIMEOUT_MS = "1s"\n[http_service]\n',
  );
  const drains =
    'ok: A drain (1000 ms) and the exit of the app (1000 ms) end before Fly.io kills the Machine (5000 ms).';
  const wrongPort =
    'error: internal_port of http_service is 8080, but PORT of the sidecar is 8000.';
  const ofFile = findingsIn(await runDoctor(['--json', '--config', path], {}), 'fly.toml');
  assert.ok(ofFile.includes(wrongPort) && ofFile.includes(drains));
  const over = await runDoctor(['--json', '--config', path], { PORT: '8080' });
  const findings = findingsIn(over, 'fly.toml');
  assert.ok(!findings.includes(wrongPort) && findings.includes(drains));
  assert.match(over.output, /with PORT from this shell/);
});

test('the settings may have the prefix, in the file and in the shell, and findings name them so', async (t) => {
  const path = await writeToml(t, '[env]\nFLY_AFFINITY_PORT = "8000"\n[http_service]\n');
  const env = { PORT: '3000', FLY_AFFINITY_HOST: '127.0.0.1' };
  const ran = await runDoctor(['--json', '--config', path], env);
  const wrongPort =
    'error: internal_port of http_service is 8080, but FLY_AFFINITY_PORT of the sidecar is 8000.';
  assert.ok(findingsIn(ran, 'fly.toml').includes(wrongPort), ran.output);
  const settings = findingsIn(ran, 'Settings');
  const wins = 'FLY_AFFINITY_PORT wins over PORT, which has another value.';
  for (const expected of [`note: ${wins}`, 'warning: FLY_AFFINITY_HOST is 127.0.0.1.'])
    assert.ok(settings.includes(expected), ran.output);
  assert.match(ran.output, /"instead": "FLY_AFFINITY_HOST=::"/);
  assert.match(ran.output, /with PORT, FLY_AFFINITY_HOST from this shell/);
});

test('an invalid setting with the prefix counts as unset, and so does its plain name', async () => {
  const env = { FLY_AFFINITY_PORT: '80a', PORT: '3000' };
  const ran = await runDoctor(['--json'], env);
  assert.equal(ran.code, 78);
  const mistake = 'error: FLY_AFFINITY_PORT must be a port number from 0 to 65535, got "80a".';
  assert.ok(findingsIn(ran, 'Settings').includes(mistake));
  const file = findingsIn(ran, 'fly.toml');
  assert.ok(file.includes('ok: Fly Proxy sends requests to the sidecar (8080).'));
});

test('a store that a fleet shares can be checked from the file, outside Fly.io', async () => {
  const env = { SESSION_STORE_URL: 'redis://user:s3cret@no-such-host' };
  const { code, output } = await runDoctor([], env);
  assert.equal(code, 0, output);
  assert.ok(!output.includes('s3cret'));
});

test('a named file that is missing is an error; without a name it is a note', async (t) => {
  const named = await runDoctor(['--json', '--config', '/nowhere/fly.toml'], {});
  assert.equal(named.code, 1);
  assert.deepEqual(findingsIn(named, 'fly.toml'), [
    'error: Could not read /nowhere/fly.toml (ENOENT).',
  ]);
  const { directory } = await createPlace(t);
  const moved = await run(t, {
    args: ['doctor', '--json'],
    env: UNSET,
    before: `process.chdir(${JSON.stringify(directory)})`,
  });
  assert.equal(moved.code, 0, moved.errors);
  assert.deepEqual(findingsIn(moved, 'fly.toml'), [
    'note: There is no fly.toml in this directory.',
  ]);
});

test('an invalid TOML file, or another file, is an error', async (t) => {
  const broken = await runDoctor(['--json', '-c', await writeToml(t, 'app = "a\n')], {});
  assert.equal(broken.code, 1);
  assert.match(findingsIn(broken, 'fly.toml')[0] ?? '', /^error: .*fly\.toml, line 1, column /);
  const wrongType = await writeToml(t, '[http_service]\ninternal_port = "8080"\n');
  const wrong = await runDoctor(['--json', '-c', wrongType], {});
  assert.ok(
    findingsIn(wrong, 'fly.toml').includes('error: http_service.internal_port must be a number.'),
  );
});

test('--help describes the command, and an error in its arguments ends with code 64', async (t) => {
  const help = await runDoctor(['--help'], {});
  assert.equal(help.code, 0);
  assert.match(help.output, /^Usage: fly-affinity doctor/);
  const wrong = await run(t, { args: ['doctor', '--repair'] });
  assert.equal(wrong.code, 64);
  assert.equal(wrong.output, '');
  assert.match(
    wrong.errors,
    /^fly-affinity doctor: .*--repair.*See fly-affinity doctor --help\.\n$/,
  );
});

test('--fix fixes what can be fixed, and says what is left', async (t) => {
  const path = await writeToml(
    t,
    '# mine\n[deploy]\nstrategy = "canary" # fast\n[http_service]\ninternal_port = 8080\nauto_stop_machines = "stop"\n',
  );
  const asked = await runDoctor(['--fix', '--config', path], {});
  assert.equal(asked.code, 1);
  assert.match(asked.errors, /^Nothing was written: standard input is not a terminal/);
  const { code, output } = await runDoctor(['--fix', '--yes', '--config', path], {});
  assert.equal(code, 0, output);
  assert.match(output, /\n\+auto_stop_machines = "suspend" # fly-affinity: was "stop"\n/);
  assert.match(output, /\n\+strategy = "rolling" # fly-affinity: was "canary" # fast\n/);
  assert.match(output, /\n0 errors, 0 warnings, \d notes?\. More with --all\.\n$/);
  const again = await runDoctor(['--fix', '--yes', '--config', path], {});
  assert.match(again.output, /\nThere is nothing to fix in the file\.\n/);
});

test('--fix never changes a mount, nor a value that it can not keep in a comment', async (t) => {
  const mounts = '[mounts]\nsource = "uploads"\ndestination = "/app/uploads"\n';
  const path = await writeToml(t, `${mounts}[http_service]\ninternal_port = 8080\n`);
  const { code, output } = await runDoctor(['--fix', '--yes', '--config', path], {});
  assert.equal(code, 0, output);
  assert.ok((await readFile(path, 'utf8')).includes(mounts));
  const long = 'kill_signal = """\\\n  SIGQUIT"""\n[http_service]\n';
  const refused = await runDoctor(['--fix', '--yes', '--config', await writeToml(t, long)], {});
  assert.equal(refused.code, 1);
  assert.match(
    refused.errors,
    /^fly-affinity doctor: cannot set kill_signal in the file: its value spans several lines\. /,
  );
});

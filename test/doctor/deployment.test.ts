import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDeployment } from '../../src/doctor/deployment.ts';
import { advice, configOf, tomlOf, troubles } from './support.ts';

const VOLUME = '[mounts]\nsource = "s"\ndestination = "/data"\n';
const BLUEGREEN = '[deploy]\nstrategy = "bluegreen"\n';
const REDIS = { SESSION_STORE_URL: 'redis://user:s3cret@host' };

const NEW_IDS =
  'warning: The deploy strategy is "bluegreen": each deploy creates Machines with new ids.';
const NO_VOLUME =
  'warning: The session store is the file /data/session-store.sqlite, but fly.toml has no [mounts].';

for (const [name, text, env, expected] of [
  ['a file on a volume is fine', VOLUME, {}, []],
  ['a list of mounts is fine too', '[[mounts]]\ndestination = "/data/"', {}, []],
  ['a database needs no volume', '', REDIS, []],
  ['no store needs no volume', '', { SESSION_STORE_ENABLED: 'false' }, []],
  ['a file without a volume is lost', '', {}, [NO_VOLUME]],
  [
    'a file outside the volume is lost',
    VOLUME,
    { SESSION_STORE_PATH: '/database/a.sqlite' },
    ['error: SESSION_STORE_PATH is /database/a.sqlite, but the volume is mounted at /data.'],
  ],
  [
    'bluegreen does not work with a volume',
    BLUEGREEN + VOLUME,
    {},
    ['error: The deploy strategy is "bluegreen" and fly.toml has [mounts].'],
  ],
  ['bluegreen loses a file', BLUEGREEN, {}, [NEW_IDS, NO_VOLUME]],
  ['bluegreen loses memory, with a database too', BLUEGREEN, REDIS, [NEW_IDS]],
  [
    'immediate drains all at once',
    `[deploy]\nstrategy = "immediate"\n${VOLUME}`,
    {},
    ['warning: The deploy strategy is "immediate": a deploy replaces all Machines at once.'],
  ],
  [
    'an unknown group',
    `${VOLUME}[processes]\nweb = "a"\n[http_service]\nprocesses = ["app"]`,
    {},
    ['error: The process group app is not in [processes].'],
  ],
  [
    'a service of several groups',
    `[[mounts]]\ndestination = "/data"\nprocesses = ["web", "jobs"]\n[processes]\nweb = "a"\njobs = "b"\n[http_service]\nprocesses = ["web", "jobs"]`,
    {},
    ['note: One service has several process groups.'],
  ],
  [
    'a service of one of several groups',
    `${VOLUME}processes = ["web"]\n[processes]\nweb = "a"\njobs = "b"\n[http_service]\nprocesses = ["web"]`,
    {},
    [],
  ],
  [
    'a service that names no group goes to the first by its name',
    `${VOLUME}[processes]\nweb = "a"\njobs = "b"\n[http_service]\nforce_https = true`,
    {},
    ['note: A service names no process group, so Fly.io gives it to jobs.'],
  ],
  [
    'a service that names no group goes to app, if there is one',
    `${VOLUME}[processes]\nworker = "a"\napp = "b"\n[http_service]\nforce_https = true`,
    {},
    [],
  ],
  [
    'the volume of another group',
    `${VOLUME}processes = ["jobs"]\n[processes]\nweb = "a"\njobs = "b"\n[http_service]\nprocesses = ["web"]`,
    {},
    [`${NO_VOLUME.slice(0, -1)} for the group web.`],
  ],
  [
    'canary does not work with a volume',
    `[deploy]\nstrategy = "canary"\n${VOLUME}`,
    {},
    ['error: The deploy strategy is "canary" and fly.toml has [mounts].'],
  ],
  [
    'several containers',
    `${VOLUME}[build.compose]\nfile = "compose.yml"`,
    {},
    ['note: A Machine has several containers ([build.compose]).'],
  ],
  [
    'several containers of a Machine configuration',
    `machine_config = "machine.json"\n${VOLUME}`,
    {},
    ['note: A Machine has several containers (machine_config).'],
  ],
] as const) {
  test(`deploys: ${name}`, () => {
    assert.deepEqual(troubles(checkDeployment(tomlOf(text), configOf(env))), expected);
  });
}

test('suggests a volume at the directory of the file', () => {
  const config = configOf({ SESSION_STORE_PATH: '/var/sessions/a.sqlite' });
  const [lines = ''] = advice(checkDeployment(tomlOf(''), config));
  assert.match(
    lines,
    /^\[mounts\]\n {2}source = "sessions"\n {2}destination = "\/var\/sessions"\n/,
  );
  const toml = tomlOf(lines.split('\nor ', 1)[0] ?? '');
  assert.deepEqual(troubles(checkDeployment(toml, config)), []);
});

test('keeps a mount, and moves the store to its volume instead', () => {
  const text = '[mounts]\nsource = "app_data"\ndestination = "/app/uploads"\n';
  const findings = checkDeployment(tomlOf(text), configOf());
  assert.deepEqual(advice(findings), [
    '[env]\n  FLY_AFFINITY_SESSION_STORE_PATH = "/app/uploads/fly-affinity/session-store.sqlite"',
  ]);
  const env = { SESSION_STORE_PATH: '/app/uploads/fly-affinity/session-store.sqlite' };
  assert.deepEqual(troubles(checkDeployment(tomlOf(text), configOf(env))), []);
});

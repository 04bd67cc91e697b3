/** `fly-affinity init`: what it asks, what it writes, and what it leaves alone. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parseConfigText } from '../../../src/doctor/config-file.ts';
import { runDoctor } from '../doctor/support.ts';
import { createFolder, type Folder } from './support.ts';

const DOCKERFILE = 'FROM python:3.13-slim\nUSER app\nCMD ["python", "server.py"]\n';
const SERVICE = '[http_service]\n  internal_port = 8000\n';
const FILES = { 'fly.toml': `app = "a"\n${SERVICE}`, Dockerfile: DOCKERFILE };

async function isUnchanged(
  folder: Folder,
  files: Readonly<Record<string, string>>,
): Promise<boolean> {
  const texts = await Promise.all(Object.keys(files).map((name) => folder.read(name)));
  return texts.join() === Object.values(files).join();
}

describe('asking', () => {
  for (const [answer, code] of [
    ['y\n', 0],
    ['YES\n', 0],
    ['n\n', 1],
    ['\n', 1],
    ['', 1],
  ] as const) {
    test(`the answer ${JSON.stringify(answer)} ends with code ${code}`, async (t) => {
      const folder = await createFolder(t, FILES);
      const { code: actual, output } = await folder.init([], answer);
      assert.equal(actual, code);
      assert.match(output, /\n\+ENTRYPOINT .*\n[^]*Write these changes\? \[y\/N\] /);
      assert.equal(await isUnchanged(folder, FILES), code === 1);
    });
  }

  test('without a terminal and without --yes, nothing is written', async (t) => {
    const folder = await createFolder(t, FILES);
    const { code, errors } = await folder.init([]);
    assert.equal(code, 1);
    assert.match(
      errors,
      /^Nothing was written: standard input is not a terminal, so nobody can confirm\. Add --yes/,
    );
    assert.ok(await isUnchanged(folder, FILES));
  });

  test('--dry-run shows the same, asks nothing and writes nothing', async (t) => {
    const folder = await createFolder(t, FILES);
    const { code, output } = await folder.init(['--dry-run']);
    assert.equal(code, 0);
    assert.match(output, /\n\+ENTRYPOINT .*\n[^]*\nNothing was written\.\n$/);
    assert.ok(await isUnchanged(folder, FILES));
  });

  for (const [args, message] of [
    [['--store', 'disk'], /--store must be one of existing, volume, shared, memory, got "disk"/],
    [['--yes', '--dry-run'], /--yes and --dry-run exclude each other/],
    [['--remove', '--store', 'memory'], /--remove and --store exclude each other/],
    [['--odd'], /'--odd'/],
    [['x'], /'x'/],
  ] as const) {
    test(`"init ${args.join(' ')}" is a mistake in the command`, async (t) => {
      const folder = await createFolder(t, FILES);
      const { code, errors } = await folder.init(args);
      assert.equal(code, 64);
      assert.match(errors, message);
    });
  }
});

describe('the store', () => {
  const mount = '[mounts]\n  source = "uploads"\n  destination = "/app/uploads"\n';

  test('an existing mount is never changed, and no other is added', async (t) => {
    const files = { ...FILES, 'fly.toml': FILES['fly.toml'] + mount };
    for (const args of [
      [],
      ['--store', 'existing'],
      ['--store', 'shared'],
      ['--store', 'memory'],
    ]) {
      const folder = await createFolder(t, files);
      assert.equal((await folder.init(['--yes', ...args])).code, 0);
      const text = await folder.read('fly.toml');
      assert.ok(text.includes(mount));
      assert.equal(text.match(/mounts\]/g)?.length, 1);
    }
  });

  test('a second volume is refused: a Machine can have only one', async (t) => {
    const folder = await createFolder(t, { ...FILES, 'fly.toml': FILES['fly.toml'] + mount });
    const { code, errors } = await folder.init(['--yes', '--store', 'volume']);
    assert.equal(code, 1);
    assert.match(errors, /There can be no such store: fly\.toml has a volume already/);
  });

  test('a folder of the image is not hidden by a new volume', async (t) => {
    const Dockerfile = DOCKERFILE.replace('USER', 'COPY seed /data/seed\nUSER');
    const folder = await createFolder(t, { ...FILES, Dockerfile });
    await folder.init();
    const text = await folder.read('fly.toml');
    assert.match(text, /destination = "\/var\/lib\/fly-affinity"/);
    assert.match(text, /SESSION_STORE_PATH = "\/var\/lib\/fly-affinity\/session-store\.sqlite"/);
  });

  test('a shared store needs a secret, and no volume', async (t) => {
    const folder = await createFolder(t, FILES);
    const { output } = await folder.init(['--yes', '--store', 'shared']);
    assert.match(output, /\n {2}fly secrets set FLY_AFFINITY_SESSION_STORE_URL=/);
    const text = await folder.read('fly.toml');
    assert.ok(!text.includes('mounts') && !text.includes('SESSION_STORE'));
    const env = { FLY_AFFINITY_SESSION_STORE_URL: 'redis://host' };
    const doctor = await runDoctor(['--config', join(folder.path, 'fly.toml')], env);
    assert.match(doctor.output, /\b0 errors, 0 warnings, /);
  });

  for (const store of ['volume', 'shared', 'memory']) {
    test(`a later init keeps the store that was chosen: ${store}`, async (t) => {
      const folder = await createFolder(t, FILES);
      await folder.init(['--yes', '--store', store]);
      assert.match((await folder.init()).output, /\nNothing to change\.\n$/);
    });
  }
});

describe('a later init', () => {
  test('keeps what people have written since, and takes it into account', async (t) => {
    const folder = await createFolder(t, FILES);
    await folder.init();
    const rename = (text: string): string => text.replace('app = "a"', 'app = "b"');
    const extend = (text: string): string => text.replace('USER', 'ENV HOST=0.0.0.0\nUSER');
    await folder.write('fly.toml', rename(await folder.read('fly.toml')));
    await folder.write('Dockerfile', extend(await folder.read('Dockerfile')));
    assert.equal((await folder.init()).code, 0);
    assert.match(await folder.read('fly.toml'), /^app = "b"\n[^]*FLY_AFFINITY_HOST = "::"\n/);
    await folder.init(['--remove', '--yes']);
    assert.equal(await folder.read('fly.toml'), rename(FILES['fly.toml']));
    assert.equal(await folder.read('Dockerfile'), extend(DOCKERFILE));
  });

  test('keeps what people have written among its lines', async (t) => {
    const folder = await createFolder(t, FILES);
    await folder.init();
    const config = await folder.read('fly.toml');
    await folder.write(
      'fly.toml',
      config
        .replace(
          '[env]\n',
          '[env]\n  # Mine.\n  FEATURE = "on"\n  FLY_AFFINITY_SESSION_PROTOCOLS = "mcp"\n',
        )
        .replace('soft_limit = 500', 'soft_limit = 800')
        .replace('initial_size = "1gb"', 'initial_size = "1gb"\n  snapshot_retention = 14'),
    );
    const image = await folder.read('Dockerfile');
    await folder.write(
      'Dockerfile',
      image.replace('USER root\n', 'USER root\nRUN chmod +x /app\n'),
    );
    const theirs = [
      /\[env\]\n(?: {2}FLY_.*\n)* {2}# Mine\.\n {2}FEATURE = "on"\n {2}FLY_AFFINITY_SESSION_PROTOCOLS = "mcp"\n/,
      /\n {2}soft_limit = 800\n/,
      /\n {2}source = "sessions"\n {2}destination = "\/data"\n {2}initial_size = "1gb"\n {2}snapshot_retention = 14\n/,
    ];
    for (const args of [['--yes'], ['--yes'], ['--remove', '--yes']]) {
      assert.equal((await folder.init(args)).code, 0);
      const text = await folder.read('fly.toml');
      for (const pattern of theirs) assert.match(text, pattern);
      assert.equal((await parseConfigText('fly.toml', text)).kind, 'parsed');
      assert.match(await folder.read('Dockerfile'), /\nRUN chmod \+x \/app\n/);
    }
    assert.doesNotMatch(await folder.read('fly.toml'), /FLY_AFFINITY_PORT|readyz/);
  });

  test('keeps what people have written below its lines in YAML', async (t) => {
    const text = 'app: a\nhttp_service:\n  internal_port: 3000\n';
    const folder = await createFolder(t, { 'fly.yaml': text, Dockerfile: DOCKERFILE });
    await folder.init();
    const edited = await folder.read('fly.yaml');
    await folder.write('fly.yaml', edited.replace('env: # fly-affinity\n', '$&  FEATURE: "on"\n'));
    assert.equal((await folder.init()).code, 0);
    assert.match(await folder.read('fly.yaml'), /\nenv:\n {2}FEATURE: "on"\n/);
    await folder.init(['--remove', '--yes']);
    assert.equal(await folder.read('fly.yaml'), `${text}env:\n  FEATURE: "on"\n`);
  });

  test('--remove without an init has nothing to change', async (t) => {
    const folder = await createFolder(t, FILES);
    const { code, output } = await folder.init(['--remove']);
    assert.deepEqual([code, output], [0, 'Nothing to change.\n']);
  });

  test('--remove says what happens to the volumes', async (t) => {
    const folder = await createFolder(t, FILES);
    await folder.init();
    const { output } = await folder.init(['--remove', '--yes']);
    assert.match(output, /^Warning: The next fly deploy asks whether to detach the volumes/);
  });
});

const JSON_TEXT = `{
  "app": "a",
  "processes": { "web": "node web.js", "jobs": "node jobs.js" },
  "http_service": { "internal_port": 3000, "processes": ["web"] }
}
`;
const YAML_TEXT = '# mine\napp: a\nhttp_service:\n  internal_port: 3000 # express\n';

for (const [file, text] of [
  ['fly.json', JSON_TEXT],
  ['fly.yaml', YAML_TEXT],
] as const) {
  describe(file, () => {
    const files = { [file]: text, Dockerfile: 'FROM node:24-slim\nCMD ["node", "web.js"]\n' };

    test('gets what a fly.toml gets: the doctor has nothing to say, and a second init nothing to do', async (t) => {
      const folder = await createFolder(t, files);
      assert.equal((await folder.init()).code, 0);
      const parsed = await parseConfigText(file, await folder.read(file));
      assert.ok(parsed.kind === 'parsed');
      assert.equal(parsed.toml.services[0]?.internalPort, 8080);
      const doctor = await runDoctor(['--config', join(folder.path, file)], {});
      assert.match(doctor.output, /\b0 errors, 0 warnings, /);
      assert.match((await folder.init()).output, /\nNothing to change\.\n$/);
    });

    test('--remove takes the sidecar out again', async (t) => {
      const folder = await createFolder(t, files);
      await folder.init();
      const { output } = await folder.init(['--remove', '--yes']);
      const parsed = await parseConfigText(file, await folder.read(file));
      assert.ok(parsed.kind === 'parsed');
      if (file === 'fly.yaml') assert.equal(await folder.read(file), text);
      else assert.match(output, /^Warning: JSON has no comments to keep old values: kill_timeout/);
      const { kill_timeout: killTimeout, ...values } = parsed.values;
      const { http_service: service, ...others } =
        (await parseConfigText(file, text)).kind === 'parsed' ? values : {};
      assert.equal(killTimeout, file === 'fly.json' ? '35s' : undefined);
      assert.equal((service as { internal_port: number }).internal_port, 3000);
      assert.deepEqual(
        Object.keys(others),
        file === 'fly.json' ? ['app', 'processes', 'mounts'] : ['app'],
      );
      assert.ok(!JSON.stringify(values).includes('fly-affinity'));
    });
  });
}

test('fly.json: --remove leaves a mount of the app, whatever its name and the store', async (t) => {
  const mounts = '"mounts": {"source": "sessions", "destination": "/data", "initial_size": "1gb"}';
  const text = `{"http_service": {"internal_port": 3000}, ${mounts}}\n`;
  const Dockerfile = 'FROM debian:12\nCMD ["a"]\n';
  for (const store of ['existing', 'shared', 'memory']) {
    const folder = await createFolder(t, { 'fly.json': text, Dockerfile });
    assert.equal((await folder.init(['--yes', '--store', store])).code, 0);
    assert.ok((await folder.read('fly.json')).includes(mounts));
    await folder.init(['--remove', '--yes']);
    assert.ok((await folder.read('fly.json')).includes(mounts));
  }
});

describe('mistakes and obstacles', () => {
  for (const [name, config, expected] of [
    ['no service', 'app = "a"\n', /There is no service with the http handler/],
    [
      'a service for bytes',
      '[[services]]\ninternal_port = 1\n',
      /no service with the http handler/,
    ],
    [
      'a command of [experimental]',
      `${SERVICE}[experimental]\nentrypoint = ["x"]\n`,
      /\[experimental\] has an entrypoint or exec/,
    ],
    [
      'a value of the wrong type',
      '[http_service]\ninternal_port = "x"\n',
      /mistakes: http_service\.internal_port must be a number/,
    ],
    ['no TOML', 'app = \n', /fly\.toml has a mistake: line 1, column/],
    [
      'a stage that is not there',
      `${SERVICE}[build]\nbuild-target = "x"\n`,
      /The Dockerfile has no stage x/,
    ],
    ['a Dockerfile that is not there', `${SERVICE}[build]\ndockerfile = "x"\n`, /There is no x\./],
    [
      'an app in an unusual spelling',
      'kill_timeout = """\n5s"""\n[http_service]\n',
      /Could not edit fly\.toml: cannot set kill_timeout/,
    ],
  ] as const) {
    test(`${name}: says so, and writes nothing`, async (t) => {
      const files = { ...FILES, 'fly.toml': config };
      const folder = await createFolder(t, files);
      const { code, output, errors } = await folder.init();
      assert.deepEqual([code, output], [1, '']);
      assert.match(errors, expected);
      assert.match(errors, /Nothing was written\./);
      assert.ok(await isUnchanged(folder, files));
    });
  }

  for (const [name, dockerfile, expected] of [
    [
      'no command',
      'FROM example.com/base\n',
      /neither CMD nor ENTRYPOINT, and those of example\.com\/base are not known/,
    ],
    ['an empty Dockerfile', '', /The Dockerfile has no stage at all/],
    [
      'the sidecar by hand',
      'FROM debian:12\nENTRYPOINT ["/opt/fly-affinity/start", "run", "--"]\nCMD ["a"]\n',
      /starts the sidecar already, written by hand/,
    ],
  ] as const) {
    test(`${name}: says so, and writes nothing`, async (t) => {
      const folder = await createFolder(t, { ...FILES, Dockerfile: dockerfile });
      const { code, errors } = await folder.init();
      assert.equal(code, 1);
      assert.match(errors, expected);
      assert.equal(await folder.read('Dockerfile'), dockerfile);
    });
  }
});

describe('other obstacles', () => {
  test('an ENTRYPOINT that other groups share has to start any command', async (t) => {
    const config = `${SERVICE}processes = ["web"]\n[processes]\nweb = "web"\njobs = "jobs"\n`;
    const Dockerfile = 'FROM debian:12\nENTRYPOINT ["/bin/app"]\n';
    const folder = await createFolder(t, { 'fly.toml': config, Dockerfile });
    const { code, errors } = await folder.init();
    assert.equal(code, 1);
    assert.match(errors, /share the ENTRYPOINT \/bin\/app, which does not start any command/);
  });

  test('a folder in place of the Dockerfile is reported', async (t) => {
    const folder = await createFolder(t, { 'fly.toml': `${SERVICE}[build]\ndockerfile = "d"\n` });
    await mkdir(join(folder.path, 'd'));
    const { code, errors } = await folder.init();
    assert.equal(code, 1);
    assert.match(errors, /Could not read d \(EISDIR\)/);
  });

  test('warns of worker processes, other services, and settings of the same name', async (t) => {
    const config = `${SERVICE}[env]\n  MAX_CONNECTIONS = "5"\n[[services]]\ninternal_port = 9000\n[[services.ports]]\nport = 9443\nhandlers = ["tls", "http"]\n`;
    const Dockerfile = 'FROM my-python\nCMD gunicorn -w 4 app:app\n';
    const folder = await createFolder(t, { 'fly.toml': config, Dockerfile });
    const { output } = await folder.init(['--dry-run']);
    for (const expected of [
      /Warning: gunicorn starts 4 worker processes/,
      /Warning: The service on port 9000 still reaches its app directly/,
      /Warning: MAX_CONNECTIONS is set, which is a setting of the sidecar too/,
      /Warning: Nothing is known of the image my-python/,
    ]) {
      assert.match(output, expected);
    }
  });
});

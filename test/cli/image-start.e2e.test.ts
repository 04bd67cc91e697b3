/** The script with which the image starts, in a folder like that of the image. Root runs it, as in a container. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const START = fileURLToPath(new URL('../../.config/start', import.meta.url));

/** Says as whom it runs, and with what. */
const REPORTER = `#!/bin/sh
echo "ids=$(id -u):$(id -g) groups=$(id -G)"
echo "nnp=$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status)"
echo "home=$HOME"
echo "options=\${NODE_OPTIONS-unset} set aside=\${FLY_AFFINITY_APP_NODE_OPTIONS-unset}"
echo "args=$*"
`;

interface Image {
  readonly folder: string;
  readonly start: (options?: StartOptions) => SpawnSyncReturns<string>;
}

interface StartOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly before?: readonly string[];
  readonly input?: string;
}

function createImage(t: TestContext): Image {
  const folder = mkdtempSync(join(tmpdir(), 'fly-affinity-image-'));
  t.after(() => rmSync(folder, { recursive: true }));
  chmodSync(folder, 0o755);
  mkdirSync(join(folder, 'bin'));
  mkdirSync(join(folder, 'data'));
  const start = join(folder, 'start');
  copyFileSync(START, start);
  writeExecutable(join(folder, 'bin/node'), REPORTER);
  return {
    folder,
    start: ({ args = ['serve'], env = {}, uid = 0, before = [], input } = {}) => {
      const [program = start, ...rest] = [...before, start, ...args];
      return spawnSync(program, rest, {
        encoding: 'utf8',
        timeout: 10_000,
        input,
        ...{ uid, gid: uid },
        env: {
          PATH: process.env.PATH,
          HOME: '/root',
          SESSION_STORE_PATH: join(folder, 'data/store.sqlite'),
          ...env,
        },
      });
    },
  };
}

function writeExecutable(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

const ownerOf = (path: string): number => statSync(path).uid;

const isPossible = process.getuid?.() === 0 && existsSync('/usr/bin/setpriv');
const options = { skip: isPossible ? false : 'needs root and setpriv' };

describe('the user', options, () => {
  test('of the image stays, without new privileges', (t) => {
    const { status, stdout, stderr } = createImage(t).start({ uid: 4321 });
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^ids=4321:4321 /);
    assert.match(stdout, /^nnp=1$/m);
  });

  test('of the image stays if it is root, with a warning', (t) => {
    const { status, stdout, stderr } = createImage(t).start();
    assert.equal(status, 0);
    assert.match(stdout, /^ids=0:0 /);
    assert.equal(
      stderr,
      'fly-affinity: runs as root, the user of this image: RUN_AS=uid:gid drops root\n',
    );
  });

  test('is that of RUN_AS, with a home of its own and the folder of the store', (t) => {
    const { folder, start } = createImage(t);
    const SESSION_STORE_PATH = join(folder, 'data/below/store.sqlite');
    const env = { RUN_AS: '4321:4322', SESSION_STORE_PATH };
    const { status, stdout, stderr } = start({ env });
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^ids=4321:4322 groups=4322$/m);
    assert.match(stdout, /^nnp=1$/m);
    assert.match(stdout, /^home=\/tmp$/m);
    assert.equal(ownerOf(join(folder, 'data/below')), 4321);
    assert.equal(ownerOf(join(folder, 'data')), 0);
  });

  test('starts with the Node.js of the image, where the folder has none', (t) => {
    const { folder, start } = createImage(t);
    mkdirSync(join(folder, 'usr'));
    renameSync(join(folder, 'bin/node'), join(folder, 'usr/node'));
    const env = { RUN_AS: '4321:4321', PATH: `${join(folder, 'usr')}:${process.env.PATH}` };
    const { status, stdout, stderr } = start({ env });
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^ids=4321:4321 /);
  });

  test('may be named, and has the home of its name', (t) => {
    const { stdout } = createImage(t).start({ env: { FLY_AFFINITY_RUN_AS: 'daemon' } });
    assert.match(stdout, /^ids=1:1 /);
    assert.match(stdout, /^home=\/usr\/sbin$/m);
  });

  test('of a command in a console of root is the owner of the store', (t) => {
    const { folder, start } = createImage(t);
    const store = join(folder, 'data/store.sqlite');
    writeFileSync(store, '');
    chownSync(store, 4321, 4321);
    const { stdout, stderr } = start({ args: ['sessions', 'list'] });
    assert.equal(stderr, '');
    assert.match(stdout, /^ids=4321:4321 /);
  });

  const NOT_ROOT = 'RUN_AS must not be root: leave RUN_AS unset to stay the user of the image';
  const NOBODY =
    'RUN_AS must not be nobody, whose files belong to everybody: name a user of its own, as 1000:1000';
  const UNKNOWN = 'RUN_AS must be uid:gid or a user of this image, got';
  const REFUSED: readonly (readonly [string, string])[] = [
    ['0:0', NOT_ROOT],
    ['0', NOT_ROOT],
    ['00:1000', NOT_ROOT],
    ['root', NOT_ROOT],
    ['root:root', NOT_ROOT],
    ['nobody', NOBODY],
    ['nobody:nogroup', NOBODY],
    ['65534:65534', NOBODY],
    ['no-such-user', `${UNKNOWN} "no-such-user"`],
    ['1000:no-such-group', `${UNKNOWN} "1000:no-such-group"`],
    ['-1:-1', `${UNKNOWN} "-1:-1"`],
    ['4294967295:4294967295', `${UNKNOWN} "4294967295:4294967295"`],
    ['18446744073709551616:0', `${UNKNOWN} "18446744073709551616:0"`],
  ];
  for (const [RUN_AS, sentence] of REFUSED)
    test(`is not ${RUN_AS}`, (t) => {
      const { status, stdout, stderr } = createImage(t).start({ env: { RUN_AS } });
      assert.deepEqual([status, stdout, stderr], [78, '', `fly-affinity: ${sentence}\n`]);
    });
});

describe('an owner is not changed', options, () => {
  const env = { RUN_AS: '4321:4321' };
  const LINK =
    'fly-affinity: SESSION_STORE_PATH leads through a link, or to /: its folder keeps its owner\n';

  test('through a link in the path of the store', (t) => {
    const { folder, start } = createImage(t);
    mkdirSync(join(folder, 'elsewhere/below'), { recursive: true });
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'data/link'));
    for (const path of ['data/link/store.sqlite', 'data/link/below/store.sqlite']) {
      const { status, stderr } = start({ env: { ...env, SESSION_STORE_PATH: join(folder, path) } });
      assert.deepEqual([status, stderr], [0, LINK]);
    }
    assert.equal(ownerOf(join(folder, 'elsewhere')), 0);
    assert.equal(ownerOf(join(folder, 'elsewhere/below')), 0);
  });

  test('through a link, or a second name, in place of a file of the store', (t) => {
    const { folder, start } = createImage(t);
    const [linked, named] = [join(folder, 'linked'), join(folder, 'named')];
    for (const path of [linked, named]) writeFileSync(path, 'of root');
    symlinkSync(linked, join(folder, 'data/store.sqlite'));
    linkSync(named, join(folder, 'data/store.sqlite-wal'));
    writeFileSync(join(folder, 'data/store.sqlite-shm'), '');
    assert.equal(start({ env }).status, 0);
    assert.deepEqual([ownerOf(linked), ownerOf(named)], [0, 0]);
    assert.equal(ownerOf(join(folder, 'data/store.sqlite-shm')), 4321, 'a file of its own');
  });

  test('of the root folder', (t) => {
    const SESSION_STORE_PATH = '/fly-affinity-store.sqlite';
    const { status, stderr } = createImage(t).start({ env: { ...env, SESSION_STORE_PATH } });
    assert.deepEqual([status, stderr], [0, LINK]);
    assert.equal(ownerOf('/'), 0);
  });
});

describe('Node.js', options, () => {
  test('starts without NODE_OPTIONS, which are set aside, and without a signal for the inspector', (t) => {
    const { folder, start } = createImage(t);
    const NODE_OPTIONS = '--require /app/a b.js';
    const { stdout } = start({ args: ['run', '--', 'a b'], env: { NODE_OPTIONS }, uid: 4321 });
    assert.match(stdout, /^options=unset set aside=--require \/app\/a b\.js$/m);
    assert.ok(stdout.endsWith(`args=--disable-sigusr1 ${folder}/dist/main.js run -- a b\n`));
  });

  test('is a child of tini if the script is the first process', (t) => {
    const { folder, start } = createImage(t);
    writeExecutable(join(folder, 'bin/tini'), '#!/bin/sh\necho "tini $$ $1"\nshift\n"$@"\n');
    const { stdout } = start({ uid: 0, before: ['unshare', '--pid', '--fork'] });
    assert.match(stdout, /^tini 1 --\nids=0:0 /);
    assert.match(start().stdout, /^ids=0:0 /, 'and not otherwise');
  });
});

const NAMESPACE = ['unshare', '--pid', '--fork', '--mount-proc'];

describe('the script as the first process, without tini', options, () => {
  test('reaps orphans', (t) => {
    const { folder, start } = createImage(t);
    // It stays a child of the first process, as a zombie, until that one reaps it.
    const orphan = `(sh -c 'exit 3' & echo $! > ${folder}/orphan)`;
    const untilReaped = `while [ -e "/proc/$(cat ${folder}/orphan)" ]; do sleep 0.05; done`;
    writeExecutable(
      join(folder, 'bin/node'),
      `#!/bin/sh\n${orphan}\n${untilReaped}\necho "parent $PPID"\n`,
    );
    const { status, stdout } = start({ before: NAMESPACE });
    assert.deepEqual([status, stdout], [0, 'parent 1\n']);
  });

  test('ends with the code of the sidecar, which gets its input', (t) => {
    const { folder, start } = createImage(t);
    writeExecutable(join(folder, 'bin/node'), '#!/bin/sh\ncat\nexit 42\n');
    const { status, stdout } = start({ before: NAMESPACE, input: 'some input' });
    assert.deepEqual([status, stdout], [42, 'some input']);
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const) {
    test(`passes ${signal} on, as often as it comes`, async (t) => {
      const { folder } = createImage(t);
      writeFileSync(join(folder, 'sidecar.cjs'), countTwo(signal));
      const node = `exec ${process.execPath} ${folder}/sidecar.cjs`;
      writeExecutable(join(folder, 'bin/node'), `#!/bin/sh\n${node}\n`);
      const rest = [...NAMESPACE.slice(1), join(folder, 'start'), 'serve'];
      const child = spawn('unshare', rest, { stdio: ['ignore', 'pipe', 'ignore'] });
      t.after(() => child.kill('SIGKILL'));
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      const next = async (): Promise<unknown> => (await lines.next()).value;
      assert.equal(await next(), 'ready');
      const first = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
      for (const count of [1, 2]) {
        process.kill(Number(first), signal);
        assert.equal(await next(), `${signal} ${count}`);
      }
      assert.deepEqual(await once(child, 'exit'), [7, null]);
    });
  }
});

function countTwo(signal: NodeJS.Signals): string {
  return `let count = 0;
process.on('${signal}', () => {
  count += 1;
  console.log('${signal}', count);
  if (count === 2) process.exit(7);
});
setInterval(() => undefined, 1000);
console.log('ready');
`;
}

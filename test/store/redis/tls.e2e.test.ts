/** `rediss://`: what the client requires, and its error when a server does not provide it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';
import { findProgram, skipUnlessFound, type Needed } from '../../support/needed.ts';
import { neededForRedis, startRedisServer } from '../../support/redis-server.ts';

const run = promisify(execFile);

const neededForTls: Needed<{ readonly server: string; readonly openssl: string }> = {
  what: 'the Redis store over TLS',
  found: findBoth(),
  missing: 'redis-server, or no openssl, on the PATH',
  howToGet: 'apt-get install redis-server openssl',
};

function findBoth(): { server: string; openssl: string } | undefined {
  const [server, openssl] = [neededForRedis.found, findProgram(['openssl'])];
  return server === undefined || openssl === undefined ? undefined : { server, openssl };
}

interface Encrypted {
  readonly port: number;
  /** A file with the trusted certificates. */
  readonly certificate: string;
  /** The names that clients requested. */
  readonly names: readonly string[];
}

/** A Redis server behind TLS, with a self-signed certificate for `localhost`. */
async function startEncrypted(t: TestContext, server: string, openssl: string): Promise<Encrypted> {
  const plain = await startRedisServer(t, { program: server, password: 'sesame' });
  const directory = await mkdtemp(join(tmpdir(), 'fly-affinity-tls-'));
  const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  await run(openssl, [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-keyout', key, '-out', certificate, '-days', '2', '-subj', '/CN=localhost'],
    ...['-addext', 'subjectAltName=DNS:localhost'],
  ]);
  const names: string[] = [];
  const front = createServer(
    {
      ...{ key: await readFile(key), cert: await readFile(certificate) },
      SNICallback: (name, done) => {
        names.push(name);
        done(null);
      },
    },
    (socket) => {
      const onward = connect(plain.port, '127.0.0.1').on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
      socket.pipe(onward).pipe(socket);
    },
  ).listen(0, 'localhost');
  await once(front, 'listening');
  t.after(async () => {
    front.close();
    await rm(directory, { recursive: true });
  });
  return { port: (front.address() as AddressInfo).port, certificate, names };
}

/** The output of a process that tries the URL. */
async function tryOut(url: string, trusted?: string): Promise<string> {
  const script = join(import.meta.dirname, '../redis-tls-client.ts');
  const env = { ...process.env, ...(trusted !== undefined && { NODE_EXTRA_CA_CERTS: trusted }) };
  const { stdout } = await run(process.execPath, ['--import', 'tsx', script, url], { env });
  return stdout;
}

skipUnlessFound(neededForTls, ({ server, openssl }) => {
  test('a server is trusted by its certificate, and receives the host name in SNI', async (t) => {
    const { port, certificate, names } = await startEncrypted(t, server, openssl);
    assert.equal(await tryOut(`rediss://:sesame@localhost:${port}`, certificate), 'a1');
    assert.deepEqual(names, ['localhost']);
  });

  test('a server without a trusted certificate is an error for the operator', async (t) => {
    const { port, certificate } = await startEncrypted(t, server, openssl);
    const [unknown, misnamed] = await Promise.all([
      tryOut(`rediss://:sesame@localhost:${port}`),
      tryOut(`rediss://:sesame@127.0.0.1:${port}`, certificate),
    ]);
    assert.match(unknown, /^fatal: the session store at rediss:\/\/localhost:\d+ .*self-signed/);
    assert.match(misnamed, /^fatal: .*127\.0\.0\.1.* cert/);
  });

  test('a URL with TLS for a server without it, or the reverse, produces a hint', async (t) => {
    const { port } = await startEncrypted(t, server, openssl);
    const bare = await startRedisServer(t, { program: server });
    const outputs = await Promise.all([
      tryOut(`redis://:sesame@localhost:${port}`),
      tryOut(`rediss://127.0.0.1:${bare.port}`),
    ]);
    for (const output of outputs) assert.match(output, /^passing: .* needs TLS/);
  });
});

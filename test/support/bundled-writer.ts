/**
 * Starts the writer threads of this process from a bundle of `writer.ts`, as the released program
 * does. From the source, Node.js strips the types of every module again in each thread: that takes
 * longer than the rest of the start, and the fast suite starts hundreds of threads.
 *
 * The bundle does not collect garbage at its start, which is almost half of it. No test of the fast
 * suite depends on it: what it frees is proved by `test/collect-garbage.test.ts`, and threads that
 * do it start in the end-to-end suite.
 */
import { build, stop, type Plugin } from 'esbuild';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import threads, { Worker, type WorkerOptions } from 'node:worker_threads';

const SOURCE = new URL('../../src/store/sqlite/writer.ts', import.meta.url);
const PACKAGES = fileURLToPath(new URL('../../node_modules', import.meta.url));

/** Of the whole process, until it ends. */
export async function bundleWriter(): Promise<void> {
  const bundle = await bundleSource();
  Object.assign(threads, {
    Worker: class extends Worker {
      constructor(file: string | URL, options?: WorkerOptions) {
        super(String(file) === SOURCE.href ? bundle : file, options);
      }
    },
  });
  syncBuiltinESMExports();
}

async function bundleSource(): Promise<URL> {
  const directory = mkdtempSync(path.join(tmpdir(), 'writer-'));
  process.once('exit', () => rmSync(directory, { recursive: true }));
  symlinkSync(PACKAGES, path.join(directory, 'node_modules'));
  const outfile = path.join(directory, 'writer.js');
  await build({
    entryPoints: [fileURLToPath(SOURCE)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'warning',
    plugins: [withoutCollection],
  });
  await stop();
  return pathToFileURL(outfile);
}

const withoutCollection: Plugin = {
  name: 'without collection',
  setup: (bundling) => {
    bundling.onLoad({ filter: /\/collect-garbage\.ts$/ }, () => ({
      contents: 'export function collectGarbage() {}',
    }));
  },
};

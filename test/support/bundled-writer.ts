/**
 * Starts the writer threads of this process from a bundle of `writer.ts`, as the released program
 * does. From the source, Node.js strips the types of every module again in each thread: that takes
 * longer than the rest of the start, and the fast suite starts hundreds of threads.
 */
import { buildSync } from 'esbuild';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import threads, { Worker, type WorkerOptions } from 'node:worker_threads';

const SOURCE = new URL('../../src/store/sqlite/writer.ts', import.meta.url);
const PACKAGES = fileURLToPath(new URL('../../node_modules', import.meta.url));

/** Of the whole process, until it ends. */
export function bundleWriter(): void {
  const bundle = build();
  Object.assign(threads, {
    Worker: class extends Worker {
      constructor(file: string | URL, options?: WorkerOptions) {
        super(String(file) === SOURCE.href ? bundle : file, options);
      }
    },
  });
  syncBuiltinESMExports();
}

function build(): URL {
  const directory = mkdtempSync(path.join(tmpdir(), 'writer-'));
  process.once('exit', () => rmSync(directory, { recursive: true }));
  symlinkSync(PACKAGES, path.join(directory, 'node_modules'));
  const outfile = path.join(directory, 'writer.js');
  buildSync({
    entryPoints: [fileURLToPath(SOURCE)],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'warning',
  });
  return pathToFileURL(outfile);
}

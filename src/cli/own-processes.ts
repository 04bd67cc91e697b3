/** The commands that start processes of this program. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

export function sidecarCommand(): string[] {
  const [, script = ''] = process.argv;
  return [process.execPath, ...process.execArgv, script, 'serve'];
}

export function demoCommand(): string[] {
  const script = new URL(`./demo-app${extname(import.meta.url)}`, import.meta.url);
  return [process.execPath, ...process.execArgv, fileURLToPath(script)];
}

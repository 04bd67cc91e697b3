/** `fly-affinity init` within this process, on files in a folder of their own. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { execute } from '../../../src/cli/init.ts';
import type { CommandContext } from '../../../src/cli/command.ts';
import { createPlace } from '../../store/place.ts';

export interface Folder {
  readonly path: string;
  read(name: string): Promise<string>;
  write(name: string, text: string): Promise<void>;
  /** With the arguments of `init`; the paths in its output are those within the folder. */
  init(args?: readonly string[], answer?: string): Promise<Ran>;
}

export interface Ran {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/** `files`: the first is the configuration. */
export async function createFolder(
  t: TestContext,
  files: Readonly<Record<string, string>>,
): Promise<Folder> {
  const place = await createPlace(t);
  const path = place.path('app');
  await mkdir(path);
  const write = (name: string, text: string): Promise<void> => writeFile(join(path, name), text);
  for (const [name, text] of Object.entries(files)) await write(name, text);
  const [config = ''] = Object.keys(files);
  return {
    ...{ path, write },
    read: (name) => readFile(join(path, name), 'utf8'),
    init: (args = ['--yes'], answer) => runInit(path, config, args, answer),
  };
}

async function runInit(
  path: string,
  config: string,
  args: readonly string[],
  answer: string | undefined,
): Promise<Ran> {
  const [stdout, stderr] = [createSink(), createSink()];
  const stdin = answer === undefined ? Readable.from([]) : terminalWith(answer);
  const context = { stdin, stdout, stderr } as unknown as CommandContext;
  const code = await execute(['--config', join(path, config), ...args], context);
  const shown = (text: string): string =>
    text.replaceAll(new RegExp(`(?:[^\\s'"]*/)?${path.split('/').at(-2)}/app/`, 'g'), '');
  return { code, output: shown(stdout.text()), errors: shown(stderr.text()) };
}

function terminalWith(answer: string): Readable {
  const stdin = new PassThrough();
  stdin.end(answer);
  return Object.assign(stdin, { isTTY: true });
}

function createSink(): Writable & { text(): string } {
  let text = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  return Object.assign(sink, { text: () => text });
}

const TEMPLATES = join(import.meta.dirname, 'templates');

interface Template {
  readonly name: string;
  /** The files as a person has them; the configuration first. */
  readonly files: Readonly<Record<string, string>>;
  /** The same files after `init`; empty where it writes nothing. */
  readonly expected: Readonly<Record<string, string>>;
  /** What it prints, without the diff. */
  readonly said: string;
}

const EXPECTED = 'expected.';

export async function readTemplates(): Promise<Template[]> {
  const names = await readdir(TEMPLATES);
  return Promise.all(names.sort().map(readTemplate));
}

async function readTemplate(name: string): Promise<Template> {
  const folder = join(TEMPLATES, name);
  const names = (await readdir(folder)).sort(
    (left, right) => Number(right.startsWith('fly.')) - Number(left.startsWith('fly.')),
  );
  const texts = await Promise.all(
    names.map(async (file) => [file, await readFile(join(folder, file), 'utf8')] as const),
  );
  const isExpected = (file: string): boolean => file.startsWith(EXPECTED);
  return {
    name,
    files: Object.fromEntries(texts.filter(([file]) => !isExpected(file))),
    expected: Object.fromEntries(
      texts
        .filter(([file]) => isExpected(file) && file !== `${EXPECTED}txt`)
        .map(([file, text]) => [file.slice(EXPECTED.length), text]),
    ),
    said: Object.fromEntries(texts)[`${EXPECTED}txt`] ?? '',
  };
}

/** Without the diff, which shows what the expected files have. */
export function withoutDiff(text: string): string {
  return text.replace(/\n--- [^]*?\n\n(?=Written|Nothing|$)/, '\n');
}

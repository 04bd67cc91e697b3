/** The examples of the documentation: a command, and what it prints. Each is in a block of the language `console`. */
import { listPages, readPage } from '../../../src/package.ts';

interface Shown {
  readonly page: string;
  /** As it is typed. */
  readonly command: string;
  readonly output: string;
}

const BLOCK = /^```console\n([^]*?)^```$/gm;

export function readShown(): readonly Shown[] {
  return listPages().flatMap((page) =>
    [...readPage(page).matchAll(BLOCK)].flatMap(([, block = '']) =>
      `\n${block}`
        .split('\n$ ')
        .slice(1)
        .map((text) => ({ page, ...parse(text.replace(/\n*$/, '\n')) })),
    ),
  );
}

function parse(text: string): Pick<Shown, 'command' | 'output'> {
  const end = text.indexOf('\n');
  return { command: text.slice(0, end), output: text.slice(end + 1) };
}

interface CommandLine {
  readonly env: Readonly<Record<string, string>>;
  readonly name: string;
  /** What follows the name. */
  readonly args: readonly string[];
  /** The number of lines that `| head` leaves. */
  readonly lineCount: number | undefined;
}

const COMMAND_LINE = /^((?:[A-Z_]+=\S+ )*)fly-affinity (\S+)(.*?)(?: \| head -(\d+))?$/;

export function parseCommandLine(command: string): CommandLine {
  const [, assignments = '', name = '', rest = '', lineCount] = COMMAND_LINE.exec(command) ?? [];
  const env = [...assignments.matchAll(/(\w+)=(\S+)/g)].map(([, key, value]) => [key, value]);
  return {
    env: Object.fromEntries(env) as Record<string, string>,
    name,
    args: [...rest.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? ''),
    lineCount: lineCount === undefined ? undefined : Number(lineCount),
  };
}

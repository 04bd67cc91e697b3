/** What a command of `fly-affinity` is, and what it gets. */
import type { Readable, Writable } from 'node:stream';
import { EXIT_USAGE } from '../app/lifecycle.ts';
import type { ProcessContext } from '../app/sidecar-process.ts';

export interface Command {
  readonly name: string;
  /** One line of the overview that `help` prints. */
  readonly summary: string;
  /** Loads the command's file when the command is run, and not before. */
  readonly load: () => Promise<CommandModule>;
}

export interface CommandModule {
  /** What `fly-affinity NAME --help` prints. */
  readonly USAGE: string;
  /** Resolves to the exit code. `args`: what follows the name of the command. */
  readonly execute: (args: readonly string[], context: CommandContext) => Promise<number>;
  /** The words of which one may follow the name of the command, for completion in a shell. */
  readonly operands?: (commands: readonly Command[]) => readonly string[];
}

export interface CommandContext extends ProcessContext {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Every command there is. */
  readonly commands: readonly Command[];
}

/** Reports a mistake in the command line; returns the exit code. `name`: of the command, if it is known. */
export function reportMistake(
  { stderr }: Pick<CommandContext, 'stderr'>,
  message: string,
  name?: string,
): number {
  const command = name === undefined ? 'fly-affinity' : `fly-affinity ${name}`;
  stderr.write(`${command}: ${message}. See ${command} --help.\n`);
  return EXIT_USAGE;
}

/** Resolves when the text is written. A reader that closes early, as `head` does, is no failure. */
export function print(stream: Writable, text: string): Promise<void> {
  stream.once('error', () => undefined);
  return new Promise((resolve) => {
    stream.write(text, () => resolve());
  });
}

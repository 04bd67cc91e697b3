/** A command within this process, and its output. */
import { Readable, Writable } from 'node:stream';
import type { CommandContext, CommandModule } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { systemClock, type Clock } from '../../src/clock.ts';
import type { Environment } from '../../src/config/config.ts';

export interface Ran {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
  /** Both, in the order in which they were written. */
  readonly screen: string;
}

export interface RunOptions {
  readonly env?: Environment;
  readonly input?: string | Readable;
  readonly clock?: Clock;
  readonly events?: CommandContext['events'];
}

export async function runInProcess(
  execute: CommandModule['execute'],
  args: readonly string[],
  { env = {}, input = '', clock = systemClock, events = process }: RunOptions = {},
): Promise<Ran> {
  const screen = createSink();
  const [stdout, stderr] = [createSink(screen), createSink(screen)];
  const context: CommandContext = {
    ...{ env, clock, stdout, stderr, events, commands: COMMANDS },
    stdin: typeof input === 'string' ? Readable.from([Buffer.from(input)]) : input,
    random: Math.random,
    printError: (text) => void stderr.write(text),
    exit: () => undefined,
    endBy: () => undefined,
  };
  const code = await execute(args, context);
  return { code, output: stdout.text(), errors: stderr.text(), screen: screen.text() };
}

/** Keeps what is written to it, and passes it on. */
export function createSink(next?: Writable): Writable & { text(): string } {
  let text = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      next?.write(chunk);
      done();
    },
  });
  return Object.assign(sink, { text: () => text });
}

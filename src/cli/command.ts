/** Reads the command line and runs what it names. */
import { systemClock } from '../clock.ts';
import { helpText } from './help.ts';
import { EXIT_USAGE } from '../app/exit-codes.ts';
import type { ProcessContext } from '../app/sidecar-process.ts';
import { readVersion } from '../version.ts';

export type Command =
  | { readonly kind: 'serve' }
  | { readonly kind: 'run'; readonly command: readonly string[] }
  | { readonly kind: 'simulate'; readonly args: readonly string[] }
  | { readonly kind: 'sessions'; readonly args: readonly string[] }
  | { readonly kind: 'doctor'; readonly args: readonly string[] }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'mistake'; readonly message: string };

/** `argv` without node and the script. */
export function parseCommand([name = 'serve', ...args]: readonly string[]): Command {
  if (name === '--help' || name === '-h' || name === 'help') return { kind: 'help' };
  if (name === '--version' || name === '-v') return { kind: 'version' };
  if (name === 'simulate' || name === 'sessions' || name === 'doctor') return { kind: name, args };
  if (name !== 'serve' && name !== 'run') return mistake(`unknown command ${JSON.stringify(name)}`);
  if (args[0] === '--help' || args[0] === '-h') return { kind: 'help' };
  if (name === 'serve') {
    if (args.length > 0)
      return mistake('serve takes no arguments: settings are environment variables');
    return { kind: 'serve' };
  }
  const [dashes, ...command] = args;
  if (dashes !== '--' || command.length === 0) {
    return mistake('run wants the command of the app: fly-affinity run -- CMD ARGS');
  }
  return { kind: 'run', command };
}

function mistake(message: string): Command {
  return { kind: 'mistake', message };
}

/** Resolves to the exit code. What a command needs is loaded when it is run. */
export async function runCommand(argv: readonly string[]): Promise<number> {
  const command = parseCommand(argv);
  switch (command.kind) {
    case 'help':
      process.stdout.write(helpText());
      return 0;
    case 'version':
      process.stdout.write(`${readVersion()}\n`);
      return 0;
    case 'mistake':
      process.stderr.write(`fly-affinity: ${command.message}. See fly-affinity --help.\n`);
      return EXIT_USAGE;
    case 'simulate': {
      const { simulate } = await import('./simulate.ts');
      return simulate(command.args);
    }
    case 'sessions': {
      const { sessions } = await import('./sessions.ts');
      const { stdin, stdout, stderr } = process;
      return sessions(command.args, { ...surroundings(), stdin, stdout, stderr });
    }
    case 'doctor': {
      const { doctor } = await import('./doctor.ts');
      const { stdout, stderr } = process;
      return doctor(command.args, { ...surroundings(), stdout, stderr });
    }
    case 'serve': {
      const [{ serve }, { startSidecar }] = await Promise.all([
        import('./serve.ts'),
        import('../app/app.ts'),
      ]);
      return serve(surroundings(), startSidecar);
    }
    case 'run': {
      const [{ run }, { startSidecar }] = await Promise.all([
        import('./run.ts'),
        import('../app/app.ts'),
      ]);
      return run(surroundings(), startSidecar, command.command);
    }
  }
}

function surroundings(): ProcessContext {
  return {
    env: process.env,
    clock: systemClock,
    random: () => Math.random(),
    events: process,
    printError: (text) => void process.stderr.write(text),
    exit: (code) => process.exit(code),
    endBy: (signal) => void process.kill(process.pid, signal),
  };
}

/** `fly-affinity try -- CMD`: the same calls to three Machines of an app, without and with the sidecar. */
import { parseArgs } from 'node:util';
import { print, reportMistake, type CommandContext, type CommandModule } from './command.ts';
import { demoCommand, sidecarCommand } from './own-processes.ts';
import {
  parseProbeOptions,
  PROBE_OPTIONS,
  PROBE_USAGE,
  type ProbeArguments,
} from './probe-options.ts';
import { compare, type ComparisonOptions } from './try/compare.ts';
import { EXIT_CONFIG, EXIT_FAILURE, collectSignals, exitCodeOf } from '../app/lifecycle.ts';
import { integer, listeningPort, valueOf } from '../config/parsers.ts';
import { InvalidSettings } from '../config/mistakes.ts';
import { messageOf } from '../errors.ts';

const MAX_MACHINES = 20;
const MAX_SESSIONS = 100;
const MAX_CALLS = 100;
const MAX_SEED = 999_999_999;

export const USAGE = `Usage: fly-affinity try [--machines 3] [--sessions 5] [--calls 10] [--seed 1]
                        [--path PATH] [--header FIELD]...
                        [--request REQ [--data TEXT] [--open REQ [--open-data TEXT]]]
                        [--keep] [--port 8080] [--json] [-- CMD ARGS]

Starts several Machines of your app on this computer, behind a simulated Fly Proxy that picks a
Machine at random for each request: first without, then with the sidecar. Opens the same sessions
in both, makes the same calls, each on a connection of its own, and shows which calls were lost.

  CMD              the app, started on each Machine with PORT set; the default is a demo app
  --machines       the number of Machines, 1 to ${MAX_MACHINES}
  --sessions       the number of sessions, 1 to ${MAX_SESSIONS}
  --calls          the number of calls in each session, 1 to ${MAX_CALLS}
  --seed           the same number makes the same choices of Machines
${PROBE_USAGE}                   --request 'WS /rooms/{session}' opens WebSockets: clients that enter a room
  --keep           goes on after the comparison: prints a line for each request, and reads commands
                   such as crash 2 from standard input ("help" lists them)
  --port           where Fly Proxy listens then, on 127.0.0.1; 0, the default, takes a free port
  --json           the result as one JSON object; with --keep, one more for each request

The sidecars take their settings from the environment, as with serve.
Exit code: 0 if no call was lost with the sidecar; 1 if one was, or if the app does not start; 64 for
a mistake in the command; 78 for a mistake in the settings; 130 after Ctrl-C.
`;

interface TryArguments extends ProbeArguments {
  readonly machineCount: number;
  readonly sessions: number;
  readonly calls: number;
  readonly seed: number;
  readonly port: number;
  readonly isKept: boolean;
  readonly isJson: boolean;
  readonly appCommand: readonly string[] | undefined;
}

export const execute: CommandModule['execute'] = async (args, context) => {
  const dashes = args.indexOf('--');
  const own = dashes === -1 ? args : args.slice(0, dashes);
  if (own.includes('--help') || own.includes('-h')) {
    await print(context.stdout, USAGE);
    return 0;
  }
  const parsed = parseTryArguments(own, dashes === -1 ? undefined : args.slice(dashes + 1));
  if (Array.isArray(parsed)) return reportMistake(context, parsed.join('; '), 'try');
  return run(parsed as TryArguments, context);
};

async function run(args: TryArguments, context: CommandContext): Promise<number> {
  const signals = collectSignals(context.events);
  const stopping = new AbortController();
  void signals.nth(1).then(() => stopping.abort());
  try {
    const { isGood } = await compare(comparisonOf(args, context, stopping.signal));
    if (!stopping.signal.aborted || args.isKept) return isGood ? 0 : EXIT_FAILURE;
    return exitCodeOf(await signals.nth(1));
  } catch (error) {
    if (stopping.signal.aborted) return exitCodeOf(await signals.nth(1));
    context.stderr.write(`fly-affinity try: ${messageOf(error)}\n`);
    return error instanceof InvalidSettings ? EXIT_CONFIG : EXIT_FAILURE;
  } finally {
    signals.stop();
  }
}

function comparisonOf(
  args: TryArguments,
  { env, clock, stdin, stdout, stderr }: CommandContext,
  signal: AbortSignal,
): ComparisonOptions {
  return {
    ...args,
    appCommand: args.appCommand ?? demoCommand(),
    sidecarCommand: sidecarCommand(),
    ...{ env, clock, signal, stdin, stdout, stderr },
  };
}

/** The arguments, or what is wrong with them. */
function parseTryArguments(
  args: readonly string[],
  appCommand: readonly string[] | undefined,
): TryArguments | readonly string[] {
  const options = parseOptions(args);
  if (typeof options === 'string') return [options];
  const mistakes: string[] = [];
  const number = (name: 'machines' | 'sessions' | 'calls' | 'seed', max: number): number =>
    valueOf(`--${name}`, integer(1, max)(options[name]), mistakes) ?? 1;
  const parsed: TryArguments = {
    machineCount: number('machines', MAX_MACHINES),
    sessions: number('sessions', MAX_SESSIONS),
    calls: number('calls', MAX_CALLS),
    seed: number('seed', MAX_SEED),
    port: valueOf('--port', listeningPort(options.port), mistakes) ?? 0,
    isKept: options.keep,
    isJson: options.json,
    appCommand,
    ...parseProbeOptions(options, mistakes),
  };
  if (appCommand?.length === 0) mistakes.push('the command of the app must follow after --');
  return mistakes.length > 0 ? mistakes : parsed;
}

/** The options as text, or what is wrong with them. */
function parseOptions(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        ...PROBE_OPTIONS,
        machines: { type: 'string', default: '3' },
        sessions: { type: 'string', default: '5' },
        calls: { type: 'string', default: '10' },
        seed: { type: 'string', default: '1' },
        port: { type: 'string', default: '0' },
        keep: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return messageOf(error);
  }
}

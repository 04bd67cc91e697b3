/** The commands of `fly-affinity`: a new one is a file (see command.ts) and a line in this table. */
import { print, reportMistake, type Command, type CommandContext } from './command.ts';
import { systemClock } from '../clock.ts';
import type { Environment } from '../config/environment.ts';
import { readVersion } from '../package.ts';

// prettier-ignore
export const COMMANDS: readonly Command[] = [
  { name: 'init', summary: 'put the sidecar into your Dockerfile and fly.toml', load: () => import('./init.ts') },
  { name: 'serve', summary: 'run the sidecar in front of the app at UPSTREAM_URL', load: () => import('./serve.ts') },
  { name: 'run', summary: 'start the app as a child process, and run the sidecar in front of it', load: () => import('./run.ts') },
  { name: 'try', summary: 'compare three Machines of your app without and with the sidecar', load: () => import('./try.ts') },
  { name: 'simulate', summary: 'run several Machines behind a simulated Fly Proxy on this computer', load: () => import('./simulate.ts') },
  { name: 'check', summary: 'open sessions in a deployment, and count the calls that do not find theirs', load: () => import('./check.ts') },
  { name: 'sessions', summary: 'list, delete, export and import sessions', load: () => import('./sessions.ts') },
  { name: 'explain', summary: 'ask the sidecar of this Machine how it would route a request, and why', load: () => import('./explain.ts') },
  { name: 'doctor', summary: 'check settings, fly.toml and this Machine, and explain what is wrong', load: () => import('./doctor.ts') },
  { name: 'dashboard', summary: 'print a dashboard for Grafana', load: () => import('./dashboard.ts') },
  { name: 'alerts', summary: 'print alert rules for Prometheus and Grafana', load: () => import('./alerts.ts') },
  { name: 'completion', summary: 'print a script that completes commands in bash, zsh or fish', load: () => import('./completion.ts') },
  { name: 'version', summary: 'print the version', load: () => import('./version.ts') },
  { name: 'help', summary: 'print this overview, a page of the documentation, or the help of a command', load: () => import('./help.ts') },
];

const HELP_OPTIONS: ReadonlySet<string | undefined> = new Set(['--help', '-h']);
const VERSION_OPTIONS: ReadonlySet<string | undefined> = new Set(['--version', '-V', '-v']);

/** Resolves to the exit code. `argv`: without node and the script. */
export async function runCommand(
  argv: readonly string[],
  context: CommandContext = contextOf(process),
): Promise<number> {
  const [name = 'help', ...args] = argv;
  if (VERSION_OPTIONS.has(name)) {
    await print(context.stdout, `${readVersion()}\n`);
    return 0;
  }
  const wanted = HELP_OPTIONS.has(name) ? 'help' : name;
  const command = context.commands.find((candidate) => candidate.name === wanted);
  if (!command) return reportMistake(context, `unknown command ${JSON.stringify(name)}`);
  const { USAGE, execute } = await command.load();
  if (!HELP_OPTIONS.has(args[0])) return execute(args, context);
  await print(context.stdout, USAGE);
  return 0;
}

function contextOf(process: NodeJS.Process): CommandContext {
  const { stdin, stdout, stderr } = process;
  return {
    ...{
      env: withNodeOptions(process.env),
      stdin,
      stdout,
      stderr,
      commands: COMMANDS,
      clock: systemClock,
      events: process,
    },
    random: () => Math.random(),
    printError: (text) => void stderr.write(text),
    exit: (code) => process.exit(code),
    endBy: (signal) => void process.kill(process.pid, signal),
  };
}

/** The environment as the program was started with it: main.ts and the image's `start` set NODE_OPTIONS aside. */
function withNodeOptions({
  FLY_AFFINITY_APP_NODE_OPTIONS: options,
  ...env
}: Environment): Environment {
  return options === undefined ? env : { ...env, NODE_OPTIONS: options };
}

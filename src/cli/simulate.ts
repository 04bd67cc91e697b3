/** `fly-affinity simulate`: several Machines behind a simulated Fly Proxy, on this computer. */
import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { systemClock } from '../clock.ts';
import { requestLine } from '../simulator/records.ts';
import { MIN_TTL_SECONDS, type ReplayCacheRule } from '../simulator/replay-cache.ts';
import { startSimulation, type Simulation } from '../simulator/simulation.ts';
import { parseSpreadName, SPREADS, type SpreadName } from '../simulator/spread.ts';
import { EXIT_FAILURE, EXIT_USAGE } from '../app/exit-codes.ts';
import { parseReplayCacheRule, REPLAY_CACHE_FORM } from './replay-cache-option.ts';

export interface SimulateArguments {
  readonly machineCount: number;
  /** 0 takes a free one. */
  readonly port: number;
  readonly spread: SpreadName;
  readonly replayCache: readonly ReplayCacheRule[];
  /** Undefined: there is none. */
  readonly hardLimit: number | undefined;
  /** Undefined: the built-in demo app. */
  readonly appCommand: readonly string[] | undefined;
}

const MAX_MACHINES = 20;
const MAX_PORT = 65_535;
const MAX_HARD_LIMIT = 99_999;

const USAGE = `Usage: fly-affinity simulate [--machines 3] [--port 8080] [--spread round-robin]
                             [--replay-cache RULE] [--hard-limit N] [-- CMD ARGS]

  --machines      how many Machines, 1 to ${MAX_MACHINES}; each is a sidecar and an app
  --port          where the simulated Fly Proxy listens, on 127.0.0.1; 0 takes a free port
  --spread        where requests start: ${SPREADS.join(', ')}
  --replay-cache  a rule of Fly Proxy's replay cache, ${REPLAY_CACHE_FORM}, as in
                  header:mcp-session-id or /app=cookie:sid:600; may be given several times.
                  Only bare replays are kept: set REPLAY_CACHEABLE=true
  --hard-limit    how many requests at once a Machine gets at most, open streams included
  CMD             the app, started once a Machine with PORT set; without it a demo app runs

Settings of the sidecars are taken from the environment, as with serve.
`;

/** Resolves to the exit code, once a signal has come and everything has ended. */
export async function simulate(args: readonly string[]): Promise<number> {
  if (args[0] === '--help' || args[0] === '-h') {
    process.stdout.write(USAGE);
    return 0;
  }
  const parsed = parseSimulateArguments(args);
  if (parsed.mistakes) {
    process.stderr.write(`fly-affinity simulate: ${parsed.mistakes.join('; ')}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  const stopping = nextSignal();
  try {
    const simulation = await start(parsed.arguments);
    describe(simulation);
    await stopping;
    await Promise.race([simulation.close(), nextSignal()]);
    return 0;
  } catch (error) {
    process.stderr.write(`fly-affinity simulate: ${messageOf(error)}\n`);
    return EXIT_FAILURE;
  }
}

/** All mistakes at once, each with what was found and what is expected. */
export function parseSimulateArguments(
  args: readonly string[],
):
  | { readonly arguments: SimulateArguments; readonly mistakes?: undefined }
  | { readonly arguments?: undefined; readonly mistakes: readonly string[] } {
  const dashes = args.indexOf('--');
  const own = dashes === -1 ? args : args.slice(0, dashes);
  const appCommand = dashes === -1 ? undefined : args.slice(dashes + 1);
  const values = parseOptions(own);
  if (typeof values === 'string') return { mistakes: [values] };
  const machineCount = integerIn(values.machines, 1, MAX_MACHINES);
  const port = integerIn(values.port, 0, MAX_PORT);
  const spread = parseSpreadName(values.spread);
  const replayCache = values['replay-cache'].flatMap((text) => parseReplayCacheRule(text) ?? []);
  const hardLimit = integerIn(values['hard-limit'] ?? '', 1, MAX_HARD_LIMIT);
  const mistakes = mistakesIn(values, appCommand);
  if (mistakes.length > 0 || machineCount === undefined || port === undefined || !spread) {
    return { mistakes };
  }
  return { arguments: { machineCount, port, spread, replayCache, hardLimit, appCommand } };
}

interface OptionTexts {
  readonly machines: string;
  readonly port: string;
  readonly spread: string;
  readonly 'replay-cache': readonly string[];
  readonly 'hard-limit'?: string | undefined;
}

function mistakesIn(values: OptionTexts, appCommand: readonly string[] | undefined): string[] {
  const { machines, port, spread, 'hard-limit': hardLimit } = values;
  const wrongRules = values['replay-cache'].filter((text) => !parseReplayCacheRule(text));
  const checks: [isWrong: boolean, mistake: string][] = [
    [
      integerIn(machines, 1, MAX_MACHINES) === undefined,
      `--machines must be a number from 1 to ${MAX_MACHINES}, got "${machines}"`,
    ],
    [
      integerIn(port, 0, MAX_PORT) === undefined,
      `--port must be a number from 0 to ${MAX_PORT}, got "${port}"`,
    ],
    [
      parseSpreadName(spread) === undefined,
      `--spread must be one of ${SPREADS.join(', ')}, got "${spread}"`,
    ],
    ...wrongRules.map((text): [boolean, string] => [
      true,
      `--replay-cache must be ${REPLAY_CACHE_FORM} with ${MIN_TTL_SECONDS} seconds or more, got "${text}"`,
    ]),
    [
      hardLimit !== undefined && integerIn(hardLimit, 1, MAX_HARD_LIMIT) === undefined,
      `--hard-limit must be a number from 1 to ${MAX_HARD_LIMIT}, got "${hardLimit ?? ''}"`,
    ],
    [appCommand?.length === 0, 'after -- the command of the app is expected'],
  ];
  return checks.filter(([isWrong]) => isWrong).map(([, mistake]) => mistake);
}

/** The options as text, or what is wrong with them. */
function parseOptions(args: readonly string[]): OptionTexts | string {
  try {
    return parseArgs({
      args: [...args],
      options: {
        machines: { type: 'string', default: '3' },
        port: { type: 'string', default: '8080' },
        spread: { type: 'string', default: 'round-robin' },
        'replay-cache': { type: 'string', multiple: true, default: [] },
        'hard-limit': { type: 'string' },
      },
    }).values;
  } catch (error) {
    return messageOf(error);
  }
}

function start(args: SimulateArguments): Promise<Simulation> {
  const [, script = ''] = process.argv;
  const { port, spread, replayCache, hardLimit } = args;
  return startSimulation({
    appCommand: args.appCommand ?? demoCommand(),
    sidecarCommand: [process.execPath, ...process.execArgv, script, 'serve'],
    env: process.env,
    // Their lines of each request would drown the simulator's own.
    sidecarEnv: { LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn' },
    machineCount: args.machineCount,
    clock: systemClock,
    random: () => Math.random(),
    edge: { port, spread, replayCache, ...(hardLimit !== undefined && { hardLimit }) },
    onLine: (machine, source, line) => process.stdout.write(`[${machine} ${source}] ${line}\n`),
  });
}

function demoCommand(): string[] {
  const script = new URL(`./demo-app${extname(import.meta.url)}`, import.meta.url);
  return [process.execPath, ...process.execArgv, fileURLToPath(script)];
}

function describe(simulation: Simulation): void {
  const lines = [
    `Simulated Fly Proxy on ${simulation.url}, resolver for .internal on ${simulation.dnsAddress} (UDP)`,
    ...simulation.machines.map(
      ({ id, region, ports }) =>
        `Machine ${id}  ${region}  sidecar 127.0.0.1:${ports.public}  app 127.0.0.1:${ports.app}` +
        `  metrics http://127.0.0.1:${ports.admin}/metrics`,
    ),
    `Try: curl ${simulation.url}`,
    'Requests: which Machine got it first -> which served it. Ctrl-C ends everything.',
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  simulation.onRequest((record) => process.stdout.write(`${requestLine(record)}\n`));
}

function nextSignal(): Promise<unknown> {
  return Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
}

function integerIn(text: string, least: number, most: number): number | undefined {
  const number = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  return number >= least && number <= most ? number : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

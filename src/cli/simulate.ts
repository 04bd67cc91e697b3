/** `fly-affinity simulate`: several Machines behind a simulated Fly Proxy, on this computer. */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { demoCommand, sidecarCommand } from './own-processes.ts';
import { seenProtocols } from './try/seen-protocols.ts';
import { print, type CommandContext, type CommandModule } from './command.ts';
import { EXIT_CONFIG, EXIT_FAILURE, EXIT_USAGE } from '../app/lifecycle.ts';
import { integer, listeningPort, mistaken, oneOf, valueOf, type Parse } from '../config/parsers.ts';
import { withPlainNames } from '../config/environment.ts';
import { InvalidSettings } from '../config/mistakes.ts';
import { presetOf, PRESETS } from '../protocols/presets.ts';
import { requestLine } from '../simulator/records.ts';
import { MIN_TTL_SECONDS, type ReplayCacheRule } from '../simulator/replay-cache.ts';
import { startSimulation, type Simulation } from '../simulator/simulation.ts';
import { SPREADS, type SpreadName } from '../simulator/spread.ts';
import { messageOf } from '../errors.ts';

interface SimulateArguments {
  readonly machineCount: number;
  /** 0: a free one. */
  readonly port: number;
  readonly spread: SpreadName;
  readonly replayCache: readonly ReplayCacheRule[];
  /** Undefined: no limit. */
  readonly hardLimit: number | undefined;
  /** Undefined: the built-in demo app. */
  readonly appCommand: readonly string[] | undefined;
}

const MAX_MACHINES = 20;
const MAX_HARD_LIMIT = 99_999;

const REPLAY_CACHE_FORM = '[PATH=]header|cookie:NAME[:SECONDS]';

export const USAGE = `Usage: fly-affinity simulate [--machines 3] [--port 8080] [--spread round-robin]
                             [--replay-cache RULE] [--hard-limit N] [-- CMD ARGS]

  --machines      the number of Machines, 1 to ${MAX_MACHINES}; each is a sidecar and an app
  --port          where the simulated Fly Proxy listens, on 127.0.0.1; 0 takes a free port
  --spread        which Machine gets a new request first: ${SPREADS.join(', ')}
  --replay-cache  a rule of Fly Proxy's replay cache, ${REPLAY_CACHE_FORM}, as in
                  header:mcp-session-id or /app=cookie:sid:600; may be repeated.
                  The cache takes bare replays only: set REPLAY_CACHEABLE=true
  --hard-limit    the most requests in flight on a Machine, open streams included
  CMD             the app, started on each Machine with PORT set; the default is a demo app

The sidecars take their settings from the environment, as with serve.
`;

/** Resolves to the exit code after a signal, when everything has stopped. */
export const execute: CommandModule['execute'] = async (args, context) => {
  const { stdout, stderr } = context;
  if (asksForHelp(args)) {
    await print(stdout, USAGE);
    return 0;
  }
  const parsed = parseSimulateArguments(args);
  if (parsed.mistakes) {
    stderr.write(`fly-affinity simulate: ${parsed.mistakes.join('; ')}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
  const stopping = nextSignal();
  try {
    const simulation = await start(parsed.arguments, context);
    describe(simulation, stdout);
    await stopping;
    stdout.write(await summaryOf(simulation));
    await Promise.race([simulation.close(), nextSignal()]);
    return 0;
  } catch (error) {
    stderr.write(`fly-affinity simulate: ${messageOf(error)}\n`);
    return error instanceof InvalidSettings ? EXIT_CONFIG : EXIT_FAILURE;
  }
};

/** What follows `--` is the app's. */
function asksForHelp(args: readonly string[]): boolean {
  const dashes = args.indexOf('--');
  const own = dashes === -1 ? args : args.slice(0, dashes);
  return own.includes('--help') || own.includes('-h');
}

/** Reports every mistake at once, each with what was found and what is expected. */
export function parseSimulateArguments(
  args: readonly string[],
):
  | { readonly arguments: SimulateArguments; readonly mistakes?: undefined }
  | { readonly arguments?: undefined; readonly mistakes: readonly string[] } {
  const dashes = args.indexOf('--');
  const appCommand = dashes === -1 ? undefined : args.slice(dashes + 1);
  const options = parseOptions(dashes === -1 ? args : args.slice(0, dashes));
  if (typeof options === 'string') return { mistakes: [options] };
  const mistakes: string[] = [];
  const { machines, port, spread, 'hard-limit': hardLimit } = options;
  const values = {
    machineCount: valueOf('--machines', integer(1, MAX_MACHINES)(machines), mistakes),
    port: valueOf('--port', listeningPort(port), mistakes),
    spread: valueOf('--spread', oneOf(SPREADS)(spread), mistakes),
    replayCache: options['replay-cache'].map((text) =>
      valueOf('--replay-cache', replayCacheRule(text), mistakes),
    ),
    hardLimit:
      hardLimit === undefined
        ? undefined
        : valueOf('--hard-limit', integer(1, MAX_HARD_LIMIT)(hardLimit), mistakes),
    appCommand,
  };
  if (appCommand?.length === 0) mistakes.push('the command of the app must follow after --');
  // Without a mistake every option has a value.
  return mistakes.length > 0 ? { mistakes } : { arguments: values as SimulateArguments };
}

/** The options as text, or what is wrong with them. */
function parseOptions(args: readonly string[]) {
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

/** As in Fly.io's own example. */
const DEFAULT_TTL_SECONDS = 300;
/** PATH may begin with a hostname; NAME is a token (RFC 9110 §5.6.2). */
const REPLAY_CACHE_RULE =
  /^(?:([^=\s]*\/[^=\s]*)=)?(header|cookie):([\w!#$%&'*+.^`|~-]+)(?::(\d{1,9}))?$/;

/** `header:mcp-session-id`, `/app=cookie:sid:600`. */
export const replayCacheRule: Parse<ReplayCacheRule> = (text) => {
  const expected = `${REPLAY_CACHE_FORM} with ${MIN_TTL_SECONDS} seconds or more`;
  const found = REPLAY_CACHE_RULE.exec(text);
  if (!found) return mistaken(expected, text);
  const [, pathPrefix = '/', type, name = '', seconds = String(DEFAULT_TTL_SECONDS)] = found;
  const ttlSeconds = Number(seconds);
  if (ttlSeconds < MIN_TTL_SECONDS) return mistaken(expected, text);
  return { value: { pathPrefix, ttlSeconds, type: type === 'cookie' ? 'cookie' : 'header', name } };
};

function start(
  args: SimulateArguments,
  { env, clock, random, stdout }: CommandContext,
): Promise<Simulation> {
  const { port, spread, replayCache, hardLimit } = args;
  const own = withPlainNames(env);
  return startSimulation({
    appCommand: args.appCommand ?? demoCommand(),
    sidecarCommand: sidecarCommand(),
    env,
    // One line a request from each sidecar would hide the simulator's own lines. People read these.
    sidecarEnv: { LOG_LEVEL: own.LOG_LEVEL ?? 'warn', LOG_FORMAT: own.LOG_FORMAT ?? 'text' },
    machineCount: args.machineCount,
    clock,
    random,
    edge: { port, spread, replayCache, ...(hardLimit !== undefined && { hardLimit }) },
    onLine: (machine, source, line) => stdout.write(`[${machine} ${source}] ${line}\n`),
  });
}

function describe(simulation: Simulation, stdout: Writable): void {
  const lines = [
    `Simulated Fly Proxy on ${simulation.url}, resolver for .internal on ${simulation.dnsAddress} (UDP)`,
    ...simulation.machines.map(
      ({ id, region, ports }) =>
        `Machine ${id}  ${region}  sidecar 127.0.0.1:${ports.public}  app 127.0.0.1:${ports.app}` +
        `  metrics http://127.0.0.1:${ports.admin}/metrics`,
    ),
    `Try: curl ${simulation.url}`,
    'Requests: the Machine that got it first -> the one that served it. Ctrl-C stops everything.',
  ];
  stdout.write(`${lines.join('\n')}\n`);
  simulation.onRequest((record) => stdout.write(`${requestLine(record)}\n`));
}

/** What the sidecars have seen, by protocol. */
async function summaryOf(simulation: Simulation): Promise<string> {
  const totals = await seenProtocols(simulation);
  if (totals.size === 0)
    return 'No request had a session id: `fly-affinity help presets` shows where ids may be.\n';
  const rows = [...totals]
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => `  ${name.padEnd(12)} ${count}  ${productsOf(name)}`.trimEnd());
  return `Requests with a session id, by protocol:\n${rows.join('\n')}\n`;
}

function productsOf(protocol: string): string {
  const products = PRESETS[presetOf(protocol) ?? '']?.products;
  return products === undefined ? '' : `(${products})`;
}

function nextSignal(): Promise<unknown> {
  return Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
}

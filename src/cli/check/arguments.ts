/** The arguments of `fly-affinity check`. */
import { parseArgs } from 'node:util';
import type { CheckLimits } from './sessions.ts';
import { integer, machineId, milliseconds, valueOf } from '../../config/parsers.ts';
import type { MachineId } from '../../session.ts';
import {
  parseProbeOptions,
  PROBE_OPTIONS,
  PROBE_USAGE,
  type ProbeArguments,
} from '../probe-options.ts';
import { messageOf } from '../../errors.ts';

const MAX_SESSIONS = 200;
const MAX_CALLS = 100;
const MAX_TIMEOUT_MS = 3_600_000;

export const USAGE = `Usage: fly-affinity check [OPTIONS] URL

Opens sessions in a running deployment as a client does, makes calls in them, each on a new connection,
and counts the calls that did not find their session: before a sidecar is added it shows the need,
afterwards the proof. It says what it sends before it does, and closes the sessions that it opened.

  URL              of the app, such as https://my-app.fly.dev
  --sessions N     how many to open, 1 to ${MAX_SESSIONS}; the default is 10
  --calls N        calls in each, 1 to ${MAX_CALLS}; the default is 5
  --timeout TIME   no new request is made after it; the default is 60s
  --machine ID     a Machine that Fly Proxy is asked for (fly-prefer-instance-id); to be given twice or
                   more often (fly machine list). Each call then goes to another Machine than the one
                   before; by default Fly Proxy chooses, usually among those of the nearest region
  --json           the result as JSON
${PROBE_USAGE}
Exit code: 0 if no call lost its session; 1 if one did, or if the app could not be reached, gave no
session or failed; 64 for a mistake in the command.
`;

export interface CheckArguments extends ProbeArguments {
  readonly kind: 'check';
  readonly origin: string;
  readonly limits: CheckLimits;
  /** No new request is made after it. */
  readonly timeoutMs: number;
  readonly machines: readonly MachineId[];
  readonly isJson: boolean;
}

type ParsedArguments =
  | CheckArguments
  | { readonly kind: 'help' }
  | { readonly kind: 'mistakes'; readonly mistakes: readonly string[] };

const OPTIONS = {
  ...PROBE_OPTIONS,
  calls: { type: 'string', default: '5' },
  help: { type: 'boolean', short: 'h', default: false },
  json: { type: 'boolean', default: false },
  machine: { type: 'string', multiple: true, default: [] as string[] },
  sessions: { type: 'string', default: '10' },
  timeout: { type: 'string', default: '60s' },
} as const;

/** Finds all mistakes at once. */
export function parseCheckArguments(args: readonly string[]): ParsedArguments {
  const parsed = parseOptions(args);
  if ('mistake' in parsed) return { kind: 'mistakes', mistakes: [parsed.mistake] };
  const { values, positionals } = parsed;
  if (values.help) return { kind: 'help' };
  const mistakes: string[] = [];
  const url = positionals.length === 1 ? urlOf(positionals[0] ?? '') : undefined;
  if (!url)
    mistakes.push('one URL is expected, such as https://my-app.fly.dev, without user or password');
  const limits = {
    sessions: valueOf('--sessions', integer(1, MAX_SESSIONS)(values.sessions), mistakes) ?? 0,
    calls: valueOf('--calls', integer(1, MAX_CALLS)(values.calls), mistakes) ?? 0,
  };
  const timeout = milliseconds(1, MAX_TIMEOUT_MS)(values.timeout);
  const timeoutMs = valueOf('--timeout', timeout, mistakes) ?? 0;
  const machines = values.machine.flatMap(
    (text) => valueOf('--machine', machineId(text), mistakes) ?? [],
  );
  if (new Set(machines).size !== machines.length || machines.length === 1) {
    mistakes.push('--machine needs two different Machines or more');
  }
  if ([values.request, values.open].some((text) => /^\s*WS\s/.test(text ?? ''))) {
    mistakes.push('no response to a WebSocket names its Machine: use fly-affinity try for WS');
  }
  const probeArguments = parseProbeOptions(withPathOf(url, values, mistakes), mistakes);
  if (mistakes.length > 0 || !url) return { kind: 'mistakes', mistakes };
  return {
    ...probeArguments,
    ...{ kind: 'check', origin: url.origin, limits, timeoutMs, machines },
    isJson: values.json,
  };
}

function parseOptions(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    return { mistake: messageOf(error) };
  }
}

function urlOf(text: string): URL | undefined {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return url.username === '' && url.password === '' ? url : undefined;
}

/** A path in the URL is the path of the protocol. */
function withPathOf<
  Values extends { readonly path?: string | undefined; readonly request?: string | undefined },
>(url: URL | undefined, values: Values, mistakes: string[]): Values {
  const path = url && `${url.pathname}${url.search}`;
  if (path === undefined || path === '/') return values;
  if (values.path === undefined && values.request === undefined) return { ...values, path };
  mistakes.push('the URL must have no path if --path or --request is given');
  return values;
}

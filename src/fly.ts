/**
 * Parses and formats Fly.io's headers and DNS records: `fly-replay` and its counterparts (Fly.io, "Dynamic
 * Request Routing"), and the names under `.internal` ("Private Networking"). Everything parsed here may
 * be forged: the parsers omit malformed parts, and never throw.
 */
import { type MachineId, parseMachineId } from './session.ts';

export type Fallback = 'force_self' | 'prefer_self';

/** The instruction of `fly-replay` to the edge. */
export interface ReplayInstruction {
  /** Only that Machine; otherwise an error. */
  readonly instance?: string;
  /** That Machine if possible. */
  readonly preferInstance?: string;
  /** One region, or several separated by commas. */
  readonly region?: string;
  readonly app?: string;
  /** Any Machine except the sender. */
  readonly isElsewhere?: boolean;
  /** Comes back in {@link ReplaySource}. */
  readonly state?: string;
  /** How long the edge tries, in ms. */
  readonly timeoutMs?: number;
  /** Where the request goes after a failure; it can't be replayed again then. */
  readonly fallback?: Fallback;
}

/** The value of `fly-replay`. Line breaks, control characters and quotes never get into it. */
export function formatReplay(instruction: ReplayInstruction): string {
  const { timeoutMs } = instruction;
  return formatFields([
    ['instance', instruction.instance],
    ['prefer_instance', instruction.preferInstance],
    ['region', instruction.region],
    ['app', instruction.app],
    ['elsewhere', instruction.isElsewhere ? 'true' : undefined],
    ['state', instruction.state],
    ['timeout', timeoutMs === undefined ? undefined : formatDuration(timeoutMs)],
    ['fallback', instruction.fallback],
  ]);
}

/** Parses a `fly-replay` as the edge does; `undefined` if it names no target. */
export function parseReplay(text: string): ReplayInstruction | undefined {
  const fields = parseFields(text, ';');
  const timeoutMs = parseDuration(fields.get('timeout') ?? '');
  const fallback = oneOf(FALLBACKS, fields.get('fallback'));
  const instruction: ReplayInstruction = {
    ...given('instance', fields.get('instance')),
    ...given('preferInstance', fields.get('prefer_instance')),
    ...given('region', fields.get('region')),
    ...given('app', fields.get('app')),
    ...given('isElsewhere', fields.get('elsewhere') === 'true' || undefined),
    ...given('state', fields.get('state')),
    ...given('timeoutMs', timeoutMs),
    ...given('fallback', fallback),
  };
  const { instance, preferInstance, region, app, isElsewhere } = instruction;
  return (instance ?? preferInstance ?? region ?? app ?? isElsewhere) ? instruction : undefined;
}

/** `fly-replay-src`: which Machine replayed this request. */
export interface ReplaySource {
  readonly instance?: MachineId;
  readonly region?: string;
  /** Microseconds since the epoch. */
  readonly timestampMicros?: number;
  readonly state?: string;
}

/** Omits missing and malformed fields. */
export function parseReplaySource(text: string): ReplaySource {
  const fields = parseFields(text, separatorOf(text));
  return {
    ...given('instance', parseMachineId(fields.get('instance') ?? '')),
    ...given('region', fields.get('region')),
    ...given('timestampMicros', parseCount(fields.get('t'))),
    ...given('state', fields.get('state')),
  };
}

export function formatReplaySource(source: ReplaySource): string {
  return formatFields([
    ['instance', source.instance],
    ['region', source.region],
    ['t', source.timestampMicros],
    ['state', source.state],
  ]);
}

const FALLBACKS = ['force_self', 'prefer_self'] as const satisfies readonly Fallback[];
export const REPLAY_FAILURE_REASONS = ['timeout', 'retries_exhausted', 'no_candidate'] as const;
export type ReplayFailureReason = (typeof REPLAY_FAILURE_REASONS)[number];

/** `fly-replay-failed`: the request came back by fallback, and may not be replayed again. */
export interface ReplayFailure {
  readonly instance?: MachineId;
  readonly app?: string;
  readonly region?: string;
  readonly replaySource?: string;
  readonly reason?: ReplayFailureReason;
  readonly elapsedMs?: number;
}

/** Omits missing and malformed fields. */
export function parseReplayFailure(text: string): ReplayFailure {
  const fields = parseFields(text, separatorOf(text));
  return {
    ...given('instance', parseMachineId(fields.get('instance') ?? '')),
    ...given('app', fields.get('app')),
    ...given('region', fields.get('region')),
    ...given('replaySource', fields.get('replay_source')),
    ...given('reason', oneOf(REPLAY_FAILURE_REASONS, fields.get('reason'))),
    ...given('elapsedMs', parseCount(fields.get('elapsed_ms'))),
  };
}

export function formatReplayFailure(failure: ReplayFailure): string {
  return formatFields([
    ['instance', failure.instance],
    ['app', failure.app],
    ['region', failure.region],
    ['replay_source', failure.replaySource],
    ['reason', failure.reason],
    ['elapsed_ms', failure.elapsedMs],
  ]);
}

const CACHE_STATUSES = ['hit', 'miss', 'bypass'] as const;

/** `fly-replay-cache-status`: whether the edge chose this Machine from its replay cache. */
export type ReplayCacheStatus = (typeof CACHE_STATUSES)[number];

export function parseReplayCacheStatus(text: string): ReplayCacheStatus | undefined {
  return oneOf(CACHE_STATUSES, text.trim().toLowerCase());
}

/** AAAA: one Machine, while it runs. */
export function machineName(app: string, id: string): string {
  return `${id}.vm.${app}.internal`;
}

/** TXT: the running Machines. */
export function runningMachinesName(app: string): string {
  return `vms.${app}.internal`;
}

/** TXT: all deployed Machines, stopped ones too. */
export function deployedMachinesName(app: string): string {
  return `all.vms.${app}.internal`;
}

/** AAAA: all running Machines. */
export function appName(app: string): string {
  return `${app}.internal`;
}

/** AAAA: the running Machines of one process group. */
export function processGroupName(app: string, group: string): string {
  return `${group}.process.${app}.internal`;
}

interface ListedMachine {
  readonly id: MachineId;
  /** Empty if the record names none. */
  readonly region: string;
}

/** What a DNS character string may hold (RFC 1035 §3.3). */
const MAX_CHARACTER_STRING_BYTES = 255;

/**
 * Parses `<machine id> <region>,...` from TXT records, each a list of character strings that belong
 * together. Returns each Machine once, and omits malformed entries.
 */
export function parseMachinesTxt(records: readonly (readonly string[])[]): ListedMachine[] {
  const machines = new Map<MachineId, ListedMachine>();
  for (const entry of records.flatMap((strings) => strings.join('').split(','))) {
    const [text = '', region = ''] = entry.trim().split(/\s+/);
    const id = parseMachineId(text);
    if (id !== undefined && !machines.has(id)) machines.set(id, { id, region });
  }
  return [...machines.values()];
}

/** One TXT record; without Machines there is none. */
export function formatMachinesTxt(machines: readonly ListedMachine[]): string[][] {
  if (machines.length === 0) return [];
  const text = machines.map(({ id, region }) => `${id} ${region}`.trimEnd()).join(',');
  const strings: string[] = [];
  for (let at = 0; at < text.length; at += MAX_CHARACTER_STRING_BYTES) {
    strings.push(text.slice(at, at + MAX_CHARACTER_STRING_BYTES));
  }
  return [strings];
}

const MS_PER_SECOND = 1_000;

function formatDuration(ms: number): string {
  return ms % MS_PER_SECOND === 0 ? `${ms / MS_PER_SECOND}s` : `${ms}ms`;
}

/** `10s` or `800ms`, in ms. */
function parseDuration(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,12})(ms|s)$/.exec(text) ?? [];
  if (count === undefined) return undefined;
  return Number(count) * (unit === 's' ? MS_PER_SECOND : 1);
}

// The fields of a Fly header: `name=value` separated by `;`, a value with separators in quotes.

type Field = readonly [name: string, value: string | number | undefined];

function formatFields(fields: readonly Field[]): string {
  return fields
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${formatValue(String(value))}`)
    .join(';');
}

/** A list must be quoted: `region="iad,any"`. */
function formatValue(value: string): string {
  const safe = value.replace(/[^\x20-\x7e]|["\\]/g, '');
  return /[;,\s]/.test(safe) ? `"${safe}"` : safe;
}

/** Names and values around `=`, quotes taken off. The first field of a name counts. */
function parseFields(text: string, separator: ';' | ','): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const part of splitOutsideQuotes(text, separator)) {
    const equals = part.indexOf('=');
    const name = part.slice(0, equals).trim().toLowerCase();
    const value = withoutQuotes(part.slice(equals + 1).trim());
    if (equals > 0 && value !== '' && !fields.has(name)) fields.set(name, value);
  }
  return fields;
}

/** Some of Fly.io's own samples separate by commas. */
function separatorOf(text: string): ';' | ',' {
  return text.includes(';') ? ';' : ',';
}

function splitOutsideQuotes(text: string, separator: ';' | ','): string[] {
  const parts: string[] = [];
  let start = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === '"') isQuoted = !isQuoted;
    if (text[at] !== separator || isQuoted) continue;
    parts.push(text.slice(start, at));
    start = at + 1;
  }
  parts.push(text.slice(start));
  return parts;
}

function withoutQuotes(value: string): string {
  return /^".*"$/s.test(value) && value.length >= 2 ? value.slice(1, -1) : value;
}

/** A whole number that is exact. */
function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : undefined;
}

function oneOf<Value extends string>(
  values: readonly Value[],
  text: string | undefined,
): Value | undefined {
  return values.find((value) => value === text);
}

/** The property if there is a value, else none at all (`exactOptionalPropertyTypes`). */
function given<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): Partial<Record<Name, Value>> {
  return value === undefined ? {} : ({ [name]: value } as Record<Name, Value>);
}

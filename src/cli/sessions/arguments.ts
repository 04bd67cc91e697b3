/** The arguments of `fly-affinity sessions`. */
import { parseArgs } from 'node:util';
import {
  parseMachineId,
  parseTypedSessionId,
  parseSessionKey,
  type MachineId,
  type SessionId,
  type SessionKey,
} from '../../session.ts';
import type { Selection } from '../../sessions/document.ts';
import {
  filePath,
  httpOrigin,
  integer,
  storeUrl,
  valueOf,
  type StoreUrl,
} from '../../config/parsers.ts';

export const USAGE = `Usage: fly-affinity sessions COMMAND [OPTIONS]

  list [--owner MACHINE] [--limit N] [--json]
                    all sessions: key, owner, origin, generation, age, time left
  get ID | --key KEY [--json]
                    one session
  delete ID | --key KEY [--if-owner MACHINE]
                    removes one session from the store. The app keeps it, and an owner hint in the id
                    still leads to its Machine
  export [FILE]     writes all sessions as JSON lines. FILE is written as a whole or not at all
  import [FILE] [--dry-run]
                    merges such lines into a store. It shortens or takes over no live session, so it
                    can be repeated. It reports every bad line, and imports the others

  ID        the session id as the client has it, with or without its owner hint; "-" reads it from
            standard input. An id is a credential, and other users and the shell history see a command
            line: prefer "-". Only the key of the id is used.
  FILE      "-" or none: standard output or input

Which sessions: if ADMIN_TOKEN is set, those of the sidecar on this Machine; else those in the store
of the environment, as with serve (SESSION_STORE_URL, SESSION_STORE_PATH).
  --admin URL       those of the sidecar whose admin listener is at URL; needs ADMIN_TOKEN
  --direct          those in the store of the environment, even if a sidecar runs
  --store STORE     those in sqlite:PATH, redis://HOST, rediss://HOST or postgres://HOST/NAME. Put a
                    password into SESSION_STORE_URL instead. SESSION_STORE_NAMESPACE, or else
                    FLY_APP_NAME, selects the fleet in a shared database.

Exit code: 0; 1 if the session does not exist, a line is bad, or a file cannot be read or written;
64 for a mistake in the command; 69 if the store or the sidecar is not reachable, or fails; 78 for a
mistake in the settings.
`;

export type SessionsCommand =
  | { readonly kind: 'list'; readonly selection: Selection; readonly isJson: boolean }
  | { readonly kind: 'get'; readonly session: NamedSession; readonly isJson: boolean }
  | {
      readonly kind: 'delete';
      readonly session: NamedSession;
      readonly ifOwner: MachineId | undefined;
    }
  /** `file`: undefined for standard output or input. */
  | { readonly kind: 'export'; readonly file: string | undefined }
  | { readonly kind: 'import'; readonly file: string | undefined; readonly isDryRun: boolean };

export type NamedSession =
  | { readonly kind: 'key'; readonly key: SessionKey }
  | { readonly kind: 'id'; readonly id: SessionId }
  | { readonly kind: 'id-on-stdin' };

/** Where the sessions are. */
export type Where =
  /** Behind the sidecar of this Machine if it shows them, else in the store of the environment. */
  | { readonly kind: 'default' }
  | { readonly kind: 'configured' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'database'; readonly url: StoreUrl }
  | { readonly kind: 'sidecar'; readonly url: URL };

type ParsedArguments =
  | { readonly kind: 'command'; readonly command: SessionsCommand; readonly where: Where }
  | { readonly kind: 'help' }
  | { readonly kind: 'mistakes'; readonly mistakes: readonly string[] };

const OPTIONS = {
  admin: { type: 'string' },
  direct: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  'if-owner': { type: 'string' },
  json: { type: 'boolean' },
  key: { type: 'string' },
  limit: { type: 'string' },
  owner: { type: 'string' },
  store: { type: 'string' },
} as const;
type OptionName = keyof typeof OPTIONS;
const WHERE_OPTIONS = ['admin', 'direct', 'store'] as const satisfies readonly OptionName[];

/** The parsed options and operands, and the list that mistakes are added to. */
interface Given {
  readonly options: ReturnType<typeof parseOptions>['values'];
  readonly operands: readonly string[];
  readonly mistakes: string[];
}

interface Grammar {
  readonly options: readonly OptionName[];
  readonly read: (given: Given) => SessionsCommand | undefined;
}

const GRAMMARS = new Map<string, Grammar>([
  ['list', { options: ['owner', 'limit', 'json'], read: readList }],
  ['get', { options: ['key', 'json'], read: readGet }],
  ['delete', { options: ['key', 'if-owner'], read: readDelete }],
  ['export', { options: [], read: readExport }],
  ['import', { options: ['dry-run'], read: readImport }],
]);

export function operands(): readonly string[] {
  return [...GRAMMARS.keys()];
}

/** Reports every mistake at once. None quotes an operand: it may be a session id. */
export function parseSessionsArguments([name, ...args]: readonly string[]): ParsedArguments {
  if (name === '--help' || name === '-h') return { kind: 'help' };
  const grammar = GRAMMARS.get(name ?? '');
  if (!grammar) {
    return mistaken([`one of ${[...GRAMMARS.keys()].join(', ')} must come first`]);
  }
  try {
    const { values, positionals } = parseOptions(args);
    if (values.help) return { kind: 'help' };
    const mistakes = misplacedOptions(values, grammar);
    const given = { options: values, operands: positionals, mistakes };
    const where = readWhere(given);
    const command = grammar.read(given);
    return where && command && mistakes.length === 0
      ? { kind: 'command', command, where }
      : mistaken(mistakes);
  } catch (error) {
    return mistaken([describeParseError(error)]);
  }
}

function mistaken(mistakes: readonly string[]): ParsedArguments {
  return { kind: 'mistakes', mistakes };
}

function parseOptions(args: readonly string[]) {
  return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
}

/** Node's message about an unknown option quotes it, and it may be a session id. */
function describeParseError(error: unknown): string {
  if (!(error instanceof Error && 'code' in error)) throw error;
  return error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION'
    ? 'unknown option (put "--" before an id that begins with "-")'
    : error.message;
}

function misplacedOptions(values: Given['options'], { options }: Grammar): string[] {
  const allowed: readonly string[] = [...options, ...WHERE_OPTIONS];
  return Object.keys(values)
    .filter((option) => !allowed.includes(option))
    .map((option) => `--${option} cannot be used with this command`);
}

function readWhere({ options, mistakes }: Given): Where | undefined {
  const given = WHERE_OPTIONS.filter((name) => options[name] !== undefined);
  if (given.length > 1) mistakes.push('only one of --admin, --direct and --store can be given');
  if (options.direct) return { kind: 'configured' };
  if (options.store !== undefined) return readStore(options.store, mistakes);
  if (options.admin === undefined) return { kind: 'default' };
  const url = valueOf('--admin', httpOrigin(options.admin), mistakes);
  return url && { kind: 'sidecar', url };
}

const FILE_SCHEME = 'sqlite:';

function readStore(text: string, mistakes: string[]): Where | undefined {
  if (text.startsWith(FILE_SCHEME) && text !== FILE_SCHEME) {
    const path = valueOf('--store sqlite:', filePath(text.slice(FILE_SCHEME.length)), mistakes);
    return path === undefined ? undefined : { kind: 'file', path };
  }
  const url = storeUrl(text);
  if (url.value && url.value.kind !== 'memory') return { kind: 'database', url: url.value };
  mistakes.push('--store must be sqlite:PATH, redis://HOST, rediss://HOST or postgres://HOST/NAME');
  return undefined;
}

function readList({ options, operands, mistakes }: Given): SessionsCommand {
  if (operands.length > 0) mistakes.push('list takes no arguments but options');
  const owner = readOwner('--owner', options.owner, mistakes);
  const limit =
    options.limit === undefined
      ? undefined
      : valueOf('--limit', integer(1, Number.MAX_SAFE_INTEGER)(options.limit), mistakes);
  return { kind: 'list', selection: { owner, limit }, isJson: options.json ?? false };
}

function readGet(given: Given): SessionsCommand | undefined {
  const session = readSession(given);
  return session && { kind: 'get', session, isJson: given.options.json ?? false };
}

function readDelete(given: Given): SessionsCommand | undefined {
  const session = readSession(given);
  const ifOwner = readOwner('--if-owner', given.options['if-owner'], given.mistakes);
  return session && { kind: 'delete', session, ifOwner };
}

function readExport({ operands, mistakes }: Given): SessionsCommand {
  return { kind: 'export', file: readFile(operands, mistakes) };
}

function readImport({ options, operands, mistakes }: Given): SessionsCommand {
  const isDryRun = options['dry-run'] ?? false;
  return { kind: 'import', file: readFile(operands, mistakes), isDryRun };
}

function readFile(operands: readonly string[], mistakes: string[]): string | undefined {
  const [file, ...others] = operands;
  if (others.length > 0) mistakes.push('only one file can be given');
  return file === '-' ? undefined : file;
}

function readSession({ options, operands, mistakes }: Given): NamedSession | undefined {
  const [id] = operands;
  if (operands.length + (options.key === undefined ? 0 : 1) !== 1 || id === '') {
    mistakes.push(
      'one session is expected: its id, "-" to read the id from standard input, or --key',
    );
    return undefined;
  }
  if (id === '-') return { kind: 'id-on-stdin' };
  return id === undefined ? readKey(options.key ?? '', mistakes) : readId(id, mistakes);
}

function readKey(text: string, mistakes: string[]): NamedSession | undefined {
  const key = parseSessionKey(text);
  if (key) return { kind: 'key', key };
  mistakes.push('--key must be 32 digits of 0-9 and a-f, as "list" shows them');
  return undefined;
}

function readId(text: string, mistakes: string[]): NamedSession | undefined {
  const id = parseTypedSessionId(text);
  if (id) return { kind: 'id', id };
  mistakes.push(INVALID_ID);
  return undefined;
}

/** Does not quote the text: it may be a credential. */
export const INVALID_ID = 'the id must be 1 to 32768 bytes without control characters';

function readOwner(
  option: string,
  text: string | undefined,
  mistakes: string[],
): MachineId | undefined {
  if (text === undefined) return undefined;
  const machine = parseMachineId(text);
  if (!machine) mistakes.push(`${option} must be a Machine id, 1 to 32 characters of a-z and 0-9`);
  return machine;
}

/** `fly-affinity explain`: asks the sidecar of this Machine what it would do with a request, and why. */
import { text as readText } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { contentTypeOf } from './probe-options.ts';
import { print, reportMistake, type CommandContext } from './command.ts';
import { formatExplanation } from './explanation.ts';
import { INVALID_ID } from './sessions/arguments.ts';
import { CommandFailed, exitCodeFor, readToolConfig } from './sessions/backend.ts';
import { adminUrlOf, createSidecarClient, failureOf } from './sessions/sidecar-client.ts';
import { readFirstLine } from './sessions/streams.ts';
import { httpOrigin, oneOf, valueOf } from '../config/parsers.ts';
import { asObject, parseJson } from '../json.ts';
import type { Explanation } from '../routing/explain.ts';
import { parseTypedSessionId, type SessionId } from '../session.ts';
import { codeOf, messageOf } from '../errors.ts';

export const USAGE = `Usage: fly-affinity explain [-X METHOD] [-H 'NAME: VALUE']... [-d TEXT] [OPTIONS] PATH

Asks the sidecar of this Machine what it would do with a request, and prints why: where the session id
is, which Machine owns the session, how that is known, and what decides. The request is not sent to the
app, and nothing is written. The sidecar does query the other Machines, as for a real request.

  PATH              path and query of the request, or its URL
  -H, --header      a header, as in curl; may be repeated
  -d, --data        the body, as in curl; the method is then POST by default, and the content-type that
                    of JSON if it looks like JSON
  -X, --request     the method; the default is GET
  --from peer       explains a request that another sidecar forwards; the default is edge
  --admin URL       asks the sidecar whose admin listener is at URL; the default is ADMIN_PORT of this
                    Machine
  --json            the explanation as JSON, as POST /explain of the admin port gives it

A session id is a credential, and other users and the shell history see a command line. Write {id} in
its place, and the id is read from standard input:

  fly-affinity explain -H 'mcp-session-id: {id}' /mcp
  fly-affinity explain '/messages?sessionId={id}'
  fly-affinity explain -H 'cookie: connect.sid={id}' / < id.txt
  fly-affinity explain -d '{"session_hash":"{id}"}' /gradio_api/queue/join

No id is printed: a session is shown as its key. ADMIN_TOKEN has to be set, for the sidecar and for this
command.

Exit code: 0; 64 for a mistake in the command; 69 if the sidecar is not reachable, or fails; 78 for a
mistake in the settings.
`;

type Parts = Pick<CommandContext, 'env' | 'clock' | 'stdin' | 'stdout' | 'stderr'>;

/** Resolves to the exit code. */
export async function execute(args: readonly string[], parts: Parts): Promise<number> {
  const parsed = parseExplainArguments(args);
  if (parsed.kind === 'help') {
    await print(parts.stdout, USAGE);
    return 0;
  }
  if (parsed.kind === 'mistakes')
    return reportMistake(parts, parsed.mistakes.join('; '), 'explain');
  try {
    const explanation = await explain(parsed, parts);
    const text = parsed.isJson
      ? `${JSON.stringify(explanation, null, 2)}\n`
      : formatExplanation(explanation);
    await print(parts.stdout, text);
    return 0;
  } catch (error) {
    parts.stderr.write(`fly-affinity explain: ${messageOf(error)}\n`);
    return exitCodeFor(error);
  }
}

interface ExplainArguments {
  readonly kind: 'explain';
  readonly method: string;
  readonly path: string;
  readonly headers: readonly Header[];
  readonly body: string | undefined;
  readonly from: 'edge' | 'peer';
  /** Undefined: that of this Machine. */
  readonly adminUrl: URL | undefined;
  readonly isJson: boolean;
}

type Header = readonly [name: string, value: string];

type ParsedArguments =
  | ExplainArguments
  | { readonly kind: 'help' }
  | { readonly kind: 'mistakes'; readonly mistakes: readonly string[] };

const OPTIONS = {
  admin: { type: 'string' },
  data: { type: 'string', short: 'd' },
  from: { type: 'string', default: 'edge' },
  header: { type: 'string', short: 'H', multiple: true, default: [] as string[] },
  help: { type: 'boolean', short: 'h', default: false },
  json: { type: 'boolean', default: false },
  request: { type: 'string', short: 'X' },
} as const;

/** Finds all mistakes at once. None quotes a header or the path: an id may be in it. */
function parseExplainArguments(args: readonly string[]): ParsedArguments {
  const parsed = parseOptions(args);
  if ('mistake' in parsed) return { kind: 'mistakes', mistakes: [parsed.mistake] };
  const { values, positionals } = parsed;
  if (values.help) return { kind: 'help' };
  const mistakes: string[] = [];
  const [path] = positionals.map(pathOf);
  if (positionals.length !== 1 || path === undefined) {
    mistakes.push('one path is expected, such as /mcp, without spaces');
  }
  const headers = values.header.flatMap((line) => readHeader(line, mistakes));
  const from = valueOf('--from', oneOf(['edge', 'peer'])(values.from), mistakes);
  const adminUrl =
    values.admin === undefined ? undefined : valueOf('--admin', httpOrigin(values.admin), mistakes);
  if (mistakes.length > 0 || path === undefined || !from) return { kind: 'mistakes', mistakes };
  const { data: body, json: isJson } = values;
  const { request: method = body === undefined ? 'GET' : 'POST' } = values;
  if (body !== undefined && !headers.some(([name]) => /^content-type$/i.test(name))) {
    headers.push(['content-type', contentTypeOf(body)]);
  }
  return { kind: 'explain', method, path, headers, body, from, adminUrl, isJson };
}

function parseOptions(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    // Node's message about an unknown option quotes it.
    const isUnknown = error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION';
    return { mistake: isUnknown ? 'unknown option' : error.message };
  }
}

/** Undefined if it is not a path. */
function pathOf(text: string): string | undefined {
  const path = /^https?:\/\//i.test(text) ? text.replace(/^[^/]*\/\/[^/?#]*/, '') : text;
  const [target = ''] = path.split('#', 1);
  if (/[^\x21-\x7e]/.test(target)) return undefined;
  if (target.startsWith('/')) return target;
  return path === text ? undefined : `/${target}`;
}

function readHeader(line: string, mistakes: string[]): Header[] {
  const [, name, value] = /^([^:\s]+):[\t ]*(.*?)[\t ]*$/s.exec(line) ?? [];
  if (name !== undefined && value !== undefined) return [[name, latin1Of(value)]];
  mistakes.push("--header must be 'NAME: VALUE'");
  return [];
}

/** UTF-8, a character for each byte, as in a request. */
function latin1Of(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

const ID_MARK = '{id}';

/** Rejects with a message for the operator. */
async function explain(given: ExplainArguments, parts: Parts): Promise<Explanation> {
  const config = readToolConfig(parts.env);
  const { adminToken: token } = config;
  if (token === undefined) throw CommandFailed.settings(NO_TOKEN);
  const url = given.adminUrl ?? (config.adminPort === 0 ? undefined : adminUrlOf(config));
  if (!url) throw CommandFailed.settings('ADMIN_PORT is 0: name the admin listener with --admin');
  const body = JSON.stringify(await requestOf(given, parts));
  const client = createSidecarClient(url, token, parts.clock);
  try {
    const response = await client.send('POST', '/explain', body);
    if (response.statusCode === 401) throw CommandFailed.unavailable(OTHER_TOKEN(url));
    if (response.statusCode === 404) throw CommandFailed.unavailable(NO_EXPLAIN(url));
    if (response.statusCode !== 200) throw await failureOf(response);
    const explanation = explanationIn(await readText(response));
    if (explanation) return explanation;
    throw CommandFailed.unavailable(NOT_AN_EXPLANATION(url));
  } catch (error) {
    if (codeOf(error) === 'ECONNREFUSED') throw CommandFailed.unavailable(NOT_RUNNING(url), error);
    throw client.explain(error);
  } finally {
    client.close();
  }
}

const NO_TOKEN =
  'ADMIN_TOKEN is not set. The sidecar explains requests only to those who have its ADMIN_TOKEN: ' +
  'set it for the sidecar (fly secrets set ADMIN_TOKEN=...), and run this command where it is set too';
const OTHER_TOKEN = ({ origin }: URL): string =>
  `the sidecar at ${origin} has another ADMIN_TOKEN than this command`;
const NO_EXPLAIN = ({ origin }: URL): string =>
  `${origin} has no /explain: the sidecar runs without ADMIN_TOKEN, is an older version, or something else listens there`;
const NOT_AN_EXPLANATION = ({ origin }: URL): string =>
  `the response of ${origin} is no explanation: the sidecar is another version, or something else listens there`;
const NOT_RUNNING = ({ origin }: URL): string =>
  `nothing listens at ${origin}: the sidecar is not running, or has another ADMIN_PORT. ` +
  'Run this command on its Machine (fly ssh console), or name its admin listener with --admin';

async function requestOf(
  { from, method, path, headers, body }: ExplainArguments,
  parts: Parts,
): Promise<object> {
  const isMissing = [path, body ?? '', ...headers.map(([, value]) => value)].some((text) =>
    text.includes(ID_MARK),
  );
  const id = isMissing ? await readId(parts) : '';
  const fields = new Map<string, string[]>();
  for (const [name, value] of headers) {
    fields.set(name, [...(fields.get(name) ?? []), value.replaceAll(ID_MARK, () => id)]);
  }
  // A request line has no other characters.
  const idInPath = id.replaceAll(
    /[^\x21-\x7e]/g,
    (char) => `%${Buffer.from(char, 'latin1').toString('hex')}`,
  );
  return {
    ...{ from, method, path: path.replaceAll(ID_MARK, () => idInPath) },
    headers: Object.fromEntries(fields),
    ...(body !== undefined && { body: body.replaceAll(ID_MARK, () => inJson(id)) }),
  };
}

/** As it stands between quotes. */
function inJson(id: string): string {
  return JSON.stringify(Buffer.from(id, 'latin1').toString('utf8')).slice(1, -1);
}

async function readId({ stdin, stderr }: Parts): Promise<SessionId> {
  if ('isTTY' in stdin && stdin.isTTY) stderr.write('session id: ');
  const id = parseTypedSessionId(await readFirstLine(stdin));
  if (id) return id;
  throw CommandFailed.usage(`standard input: ${INVALID_ID}`);
}

/** Undefined if the text is something else. */
function explanationIn(text: string): Explanation | undefined {
  const { machine, steps, response } = asObject(parseJson(text)) ?? {};
  const isExplanation =
    typeof machine === 'string' &&
    Array.isArray(steps) &&
    steps.every((step) => typeof asObject(step)?.step === 'string') &&
    typeof asObject(response)?.by === 'string';
  return isExplanation ? ({ machine, steps, response } as unknown as Explanation) : undefined;
}

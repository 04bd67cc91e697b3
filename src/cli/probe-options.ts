/** The options of `try` and `check` that say how to make sessions in an app. */
import { probesFor } from '../probe/detect.ts';
import type { HeaderFields, ProbeRequest } from '../probe/http-client.ts';
import { createOwnRequestProbe } from '../probe/own-request.ts';
import type { Probe } from '../probe/probe.ts';

/** For `parseArgs`. */
export const PROBE_OPTIONS = {
  path: { type: 'string' },
  request: { type: 'string' },
  data: { type: 'string' },
  open: { type: 'string' },
  'open-data': { type: 'string' },
  header: { type: 'string', multiple: true, default: [] as string[] },
} as const;

export const PROBE_USAGE = `  --path PATH      where the app speaks its protocol; the default is to try the usual paths
  --header FIELD   sent with each request, as in 'Authorization: Bearer ...'; may be repeated
  --request REQ    a request of your own in place of a protocol that is known, as in 'POST /rpc'. It
                   is repeated in each session: cookies and session headers of its first response
                   go with it. {session} in REQ, FIELD or TEXT is an id that the client chooses
  --data TEXT      the body of that request
  --open REQ       another request opens the session; {location} in --request is the path in its
                   Location header, and {/room/id} a value in its JSON
  --open-data TEXT the body of that request
`;

export interface ProbeOptionValues {
  readonly path?: string | undefined;
  readonly request?: string | undefined;
  readonly data?: string | undefined;
  readonly open?: string | undefined;
  readonly 'open-data'?: string | undefined;
  readonly header: readonly string[];
}

export interface ProbeArguments {
  /** In the order in which they are tried. */
  readonly probes: readonly Probe[];
  /** For the client: they go with each request. */
  readonly headers: HeaderFields;
}

/** Adds to `mistakes` what is wrong; the result is of use only without one. No mistake quotes a header: it may be a credential. */
export function parseProbeOptions(values: ProbeOptionValues, mistakes: string[]): ProbeArguments {
  const { path, request, open, data, 'open-data': openData } = values;
  const headers = Object.fromEntries(values.header.map((text) => headerOf(text, mistakes)));
  if (path !== undefined && !isTarget(path))
    mistakes.push(mistake('--path', 'a path such as /mcp', path));
  if (request === undefined) {
    for (const name of ['open', 'data', 'open-data'] as const)
      if (values[name] !== undefined) mistakes.push(`--${name} needs --request`);
    return { headers, probes: probesFor(path) };
  }
  if (path !== undefined) mistakes.push('--path and --request exclude each other');
  if (openData !== undefined && open === undefined) mistakes.push('--open-data needs --open');
  const call = requestOf('--request', request, { headers, body: data }, mistakes);
  const opening =
    open === undefined
      ? {}
      : { open: requestOf('--open', open, { headers, body: openData }, mistakes) };
  return {
    headers: {},
    probes: [createOwnRequestProbe({ ...opening, call })],
  };
}

function mistake(option: string, expected: string, found: string): string {
  return `${option} must be ${expected}, got ${JSON.stringify(found)}`;
}

/** RFC 9110 §5.1 and §5.5. */
const HEADER = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*$/;

function headerOf(text: string, mistakes: string[]): readonly [string, string] {
  const [, name, value] = HEADER.exec(text) ?? [];
  if (name !== undefined && value !== undefined) return [name.toLowerCase(), value];
  mistakes.push("--header must be a field such as 'Authorization: Bearer ...'");
  return ['', ''];
}

const REQUEST = /^(?:([A-Z]+) +)?(\S+)$/;

function requestOf(
  option: string,
  text: string,
  { headers, body }: { readonly headers: HeaderFields; readonly body: string | undefined },
  mistakes: string[],
): ProbeRequest {
  const [, method = body === undefined ? 'GET' : 'POST', target = ''] =
    REQUEST.exec(text.trim()) ?? [];
  if (!isTarget(target) && !target.startsWith('{location}')) {
    mistakes.push(mistake(option, "a method and a path, as in 'POST /rpc'", text));
  }
  if (body === undefined) return { method, target, headers };
  return { method, target, headers: { 'content-type': contentTypeOf(body), ...headers }, body };
}

/** By what it looks like: JSON, or a form. */
export function contentTypeOf(body: string): string {
  return /^\s*[[{]/.test(body) ? 'application/json' : 'application/x-www-form-urlencoded';
}

function isTarget(text: string): boolean {
  return /^\/[\x21-\x7e]*$/.test(text) && !text.includes('#');
}

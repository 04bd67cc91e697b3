/**
 * `/explain`: what the sidecar would do with a request, and why.
 *
 * ```
 * POST /explain                                       {"method","path","headers","from"} as JSON
 * GET  /explain?method=POST&path=/mcp&header=a:%20b   the same; `header` any number of times
 * ```
 * A session id is a credential, and URLs end up in histories and logs: that is what the body is for.
 * The request in question is never logged, and no error message repeats any of it.
 */
import { readText } from './body.ts';
import { HttpError, respondJson } from './respond.ts';
import type { AdminCall } from './router.ts';
import type { Clock } from '../clock.ts';

/** A request as a client or a peer would send it. */
export interface ExplainedRequest {
  readonly from: 'edge' | 'peer';
  readonly method: string;
  readonly target: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
}

export interface ExplainParts {
  /** Never rejects. */
  readonly explain: (request: ExplainedRequest) => Promise<object>;
  readonly clock: Clock;
}

/** More than the head of a request may have (http/limits.ts), written as JSON. */
const MAX_BODY_BYTES = 131_072;

export async function explainQuery(
  { query, response }: AdminCall,
  { explain }: ExplainParts,
): Promise<void> {
  respondJson(response, 200, await explain(parseQuery(query)));
}

export async function explainBody(
  { request, response }: AdminCall,
  { explain, clock }: ExplainParts,
): Promise<void> {
  const body = await readText(request, clock, MAX_BODY_BYTES);
  respondJson(response, 200, await explain(parseBody(body)));
}

const NAMES: ReadonlySet<string> = new Set(['method', 'path', 'header', 'from']);

function parseQuery(query: URLSearchParams): ExplainedRequest {
  const names = [...query.keys()].filter((name) => name !== 'header');
  const isKnown = names.every((name) => NAMES.has(name)) && new Set(names).size === names.length;
  if (!isKnown) {
    throw new HttpError(
      400,
      'method, path and from can be given once here, header any number of times',
    );
  }
  return checked({
    from: query.get('from') ?? undefined,
    method: query.get('method') ?? undefined,
    path: query.get('path') ?? undefined,
    headers: query.getAll('header').map((line): [string, string] => {
      const at = line.indexOf(':');
      if (at < 1) throw new HttpError(400, 'a header is written as name: value');
      return [line.slice(0, at), line.slice(at + 1).trim()];
    }),
  });
}

const BODY_SHAPE =
  'the body is JSON: {"method", "path", "headers": {name: value or values}, "from"}, with a path';

function parseBody(text: string): ExplainedRequest {
  const given = parseObject(text);
  const isKnown = Object.keys(given).every((name) => name === 'headers' || NAMES.has(name));
  if (!isKnown || 'header' in given) throw new HttpError(400, BODY_SHAPE);
  const { from, method, path, headers = {} } = given;
  if (typeof headers !== 'object' || headers === null) throw new HttpError(400, BODY_SHAPE);
  return checked({
    from,
    method,
    path,
    headers: Object.entries(headers).flatMap(([name, values]: [string, unknown]) =>
      (Array.isArray(values) ? values : [values]).map((value: unknown) => [name, value] as const),
    ),
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) return { ...parsed };
  } catch {
    // The parser's message would repeat what it could not read.
  }
  throw new HttpError(400, BODY_SHAPE);
}

interface Given {
  readonly from: unknown;
  readonly method: unknown;
  readonly path: unknown;
  readonly headers: readonly (readonly [string, unknown])[];
}

/** RFC 9110 §5.6.2 and §5.5: what node:http would let through. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const TARGET = /^[\x21-\x7e]+$/;

function checked({ from = 'edge', method = 'GET', path, headers }: Given): ExplainedRequest {
  if (from !== 'edge' && from !== 'peer') throw new HttpError(400, 'from must be edge or peer');
  if (typeof method !== 'string' || !TOKEN.test(method)) {
    throw new HttpError(400, 'method must be the name of one, such as POST');
  }
  if (typeof path !== 'string' || !TARGET.test(path)) {
    throw new HttpError(400, 'path must be given, with its query, as in a request');
  }
  const rawHeaders = headers.flatMap(([name, value]) => {
    if (TOKEN.test(name) && typeof value === 'string' && VALUE.test(value)) return [name, value];
    throw new HttpError(400, 'a header must have a name and a value as in a request');
  });
  return { from, method, target: path, rawHeaders };
}

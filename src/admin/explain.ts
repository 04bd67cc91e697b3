/**
 * `/explain` of the admin listener, for those who bring `ADMIN_TOKEN`: what would be done with a
 * request, and why.
 *
 * ```
 * POST /explain                                       {"method","path","headers","from"} as JSON
 * GET  /explain?method=POST&path=/mcp&header=a:%20b   the same; `header` any number of times
 * ```
 * A session id is a credential, and URLs end up in histories and logs: that is what the body is for.
 * Nothing of what was asked is logged, and no complaint about it repeats it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { respondJson } from './answer.ts';
import { HttpError, splitTarget } from './parameters.ts';
import { createTokenCheck, type TokenCheckOptions } from './token.ts';
import { withReadTimeout } from '../sessions/stall.ts';

/** A request as somebody would send it. */
export interface ExplainedRequest {
  readonly from: 'edge' | 'peer';
  readonly method: string;
  readonly target: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
}

export interface ExplainRoutesOptions extends TokenCheckOptions {
  /** Never rejects. */
  readonly explain: (request: ExplainedRequest) => Promise<object>;
}

export interface ExplainRoutes {
  /** Whether the path is this one; then the request is answered. */
  answer(request: IncomingMessage, response: ServerResponse): boolean;
  /** Resolves once nothing is under way. */
  ended(): Promise<void>;
}

/** More than a request's head may have (`http.ts`), written as JSON. */
const MAX_BODY_BYTES = 131_072;
const STALL_TIMEOUT_MS = 10_000;

export function createExplainRoutes(options: ExplainRoutesOptions): ExplainRoutes {
  const isAuthorized = createTokenCheck(options);
  const running = new Set<Promise<void>>();

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      respondJson(response, 200, await options.explain(await asked(request)));
    } catch (error) {
      const { status, message } =
        error instanceof HttpError ? error : { status: 500, message: 'failed' };
      if (status === 405) response.setHeader('allow', 'GET, POST');
      if (!response.destroyed) respondJson(response, status, { error: message });
    }
  }

  async function asked(request: IncomingMessage): Promise<ExplainedRequest> {
    const [, query] = splitTarget(request.url);
    if (request.method === 'GET') return inQuery(new URLSearchParams(query));
    if (request.method === 'POST') return inBody(await readText(request));
    throw new HttpError(405, 'method not allowed');
  }

  async function readText(request: IncomingMessage): Promise<string> {
    const onStall = (): void => void request.destroy();
    const pieces = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    const watch = { clock: options.clock, timeoutMs: STALL_TIMEOUT_MS, onStall };
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of withReadTimeout(pieces, watch)) {
      size += chunk.length;
      if (size > MAX_BODY_BYTES)
        throw new HttpError(413, `the body may have ${MAX_BODY_BYTES} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
  }

  return {
    answer: (request, response) => {
      const [path] = splitTarget(request.url);
      if (path !== '/explain') return false;
      if (!isAuthorized(request)) {
        response.setHeader('www-authenticate', 'Bearer');
        respondJson(response, 401, { error: 'wants Authorization: Bearer ADMIN_TOKEN' });
        return true;
      }
      const answering = answer(request, response).finally(() => running.delete(answering));
      running.add(answering);
      return true;
    },
    ended: async () => {
      await Promise.all(running);
    },
  };
}

const NAMES: ReadonlySet<string> = new Set(['method', 'path', 'header', 'from']);

function inQuery(query: URLSearchParams): ExplainedRequest {
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

function inBody(text: string): ExplainedRequest {
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

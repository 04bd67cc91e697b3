/**
 * `/explain`: what the sidecar would do with a request, and why.
 *
 * ```
 * POST /explain                                       {"method","path","headers","body","from"} as JSON
 * GET  /explain?method=POST&path=/mcp&header=a:%20b   the same; `header` any number of times
 * ```
 * A session id is a credential, and URLs end up in histories and logs: that is what the body is for.
 * The request in question is never logged, and no error message repeats any of it.
 */
import * as v from 'valibot';
import { readText, parseInput, parseQuery, textSchema } from './input.ts';
import { respondJson, type AdminCall } from './router.ts';
import type { Clock } from '../clock.ts';
import { parseJson } from '../json.ts';

/** A request as a client or a peer would send it. */
export interface RequestToExplain {
  readonly from: 'edge' | 'peer';
  readonly method: string;
  readonly target: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
  readonly body?: string | undefined;
}

export interface ExplainRouteParts {
  /** Never rejects. */
  readonly explain: (request: RequestToExplain) => Promise<object>;
  readonly clock: Clock;
}

/** More than the head of a request may have (http/limits.ts), and a body with an id, written as JSON. */
const MAX_BODY_BYTES = 131_072;

export async function explainQuery(
  { query, response }: AdminCall,
  { explain }: ExplainRouteParts,
): Promise<void> {
  const { path: target, header, ...rest } = parseQuery(query, QUERY, 'header');
  respondJson(response, 200, await explain({ ...rest, target, rawHeaders: header.flat() }));
}

export async function explainBody(
  { request, response }: AdminCall,
  { explain, clock }: ExplainRouteParts,
): Promise<void> {
  const body = parseJson(await readText(request, clock, MAX_BODY_BYTES));
  const { path: target, headers, ...rest } = parseInput(BodySchema, body);
  const rawHeaders = Object.entries(headers).flatMap(([name, values]) =>
    [values].flat().flatMap((value) => [name, value]),
  );
  respondJson(response, 200, await explain({ ...rest, target, rawHeaders }));
}

/** RFC 9110 §5.6.2 and §5.5: what node:http accepts. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const TARGET = /^[\x21-\x7e]+$/;
const AS_IN_A_REQUEST = 'a name and a value as in a request';

const NameSchema = textSchema(TOKEN, AS_IN_A_REQUEST);
const ValueSchema = textSchema(VALUE, AS_IN_A_REQUEST);

const REQUEST = {
  from: v.optional(v.picklist(['edge', 'peer'], 'edge or peer'), 'edge'),
  method: v.optional(textSchema(TOKEN, 'the name of a method, such as POST'), 'GET'),
  path: textSchema(TARGET, 'a path with its query, as in a request'),
};

const QUERY = {
  ...REQUEST,
  header: v.array(
    v.pipe(
      v.string(),
      v.transform((line) => /^([^:]*):[\t ]*(.*?)[\t ]*$/s.exec(line)?.slice(1)),
      v.tuple([NameSchema, ValueSchema], 'name: value, as in a request'),
    ),
  ),
};

const BodySchema = v.strictObject(
  {
    ...REQUEST,
    headers: v.optional(
      v.record(NameSchema, v.union([ValueSchema, v.array(ValueSchema)], AS_IN_A_REQUEST)),
      {},
    ),
    body: v.optional(v.string('a text')),
  },
  'the body must be JSON: {"method", "path", "headers": {name: value or values}, "body", "from"}, with a path',
);

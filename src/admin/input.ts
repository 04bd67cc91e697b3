/** Checks what admin requests contain by schemas. Everything here throws {@link HttpError} 400. */
import * as v from 'valibot';
import { HttpError } from './router.ts';
import { SessionKeySchema } from '../schemas.ts';
import type { SessionKey } from '../session.ts';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../clock.ts';
import { withReadTimeout } from '../sessions/import.ts';

/** Never quotes the input: it may contain a session id. */
export function parseInput<Output>(
  schema: v.GenericSchema<unknown, Output>,
  input: unknown,
): Output {
  const { success, output, issues } = v.safeParse(schema, input, {
    abortEarly: true,
    // Where a schema has no message of its own: valibot's would quote the input.
    message: 'well-formed',
  });
  if (success) return output;
  const [{ type, path, message }] = issues;
  // An unknown or a missing member: its name is not ours.
  const isAboutObject = type === 'strict_object' || path === undefined;
  throw new HttpError(400, isAboutObject ? message : `${String(path[0].key)} must be ${message}`);
}

/** A misspelt parameter must not be ignored. `list`: the one that may be repeated. */
export function parseQuery<const Entries extends v.ObjectEntries>(
  query: URLSearchParams,
  entries: Entries,
  list?: keyof Entries & string,
): v.InferOutput<v.StrictObjectSchema<Entries, string>> {
  const names = Object.keys(entries);
  const expected =
    names.length === 0
      ? 'no parameters can be given here'
      : `only ${names.join(', ')} can be given here, each once`;
  const single = [...query].filter(([name]) => name !== list);
  if (new Set(single.map(([name]) => name)).size < single.length) {
    throw new HttpError(400, expected);
  }
  const lists = list === undefined ? {} : { [list]: query.getAll(list) };
  return parseInput(v.strictObject(entries, expected), { ...Object.fromEntries(single), ...lists });
}

export const NumberSchema = v.pipe(
  v.string(),
  v.regex(/^\d{1,15}$/, 'a whole number'),
  v.transform(Number),
);

export const FlagSchema = v.pipe(
  v.picklist(['true', 'false'], 'true or false'),
  v.transform((value) => value === 'true'),
);

/** Never shows an invalid key: it may be a session id. */
export function parseKey(text: string): SessionKey {
  if (v.is(SessionKeySchema, text)) return text;
  throw new HttpError(
    400,
    `the path must end with a session key, ${String(SessionKeySchema.message)}`,
  );
}

/** A string of this form. */
export function textSchema(pattern: RegExp, expected: string) {
  return v.pipe(v.string(expected), v.regex(pattern, expected));
}

/* Reads the body of an admin request, with a bound on the pause between two chunks. */

/** The request stays open, so that a response can be sent when the reader stops early. */
export function readChunks(
  request: IncomingMessage,
  clock: Clock,
  timeoutMs: number,
): AsyncIterable<Buffer> {
  const onStall = (): void => void request.destroy();
  const chunks = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  return withReadTimeout(chunks, { clock, timeoutMs, onStall });
}

const TEXT_TIMEOUT_MS = 10_000;

/** Throws {@link HttpError} 413 if the body is larger. */
export async function readText(
  request: IncomingMessage,
  clock: Clock,
  maxBytes: number,
): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of readChunks(request, clock, TEXT_TIMEOUT_MS)) {
    size += chunk.length;
    if (size > maxBytes) throw new HttpError(413, `the body must have at most ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Parses the replay that a Machine's response requests from the edge. */
import type { IncomingMessage } from 'node:http';
import { parseReplay, type ReplayInstruction } from '../fly.ts';
import { withHeaders, withoutNames } from './edge-headers.ts';

/** Changes to the request on its way to the next Machine; only the JSON form has them. */
interface Transform {
  readonly path?: string;
  readonly deletedHeaders: readonly string[];
  readonly setHeaders: Readonly<Record<string, string>>;
}

export type ReplayRequest =
  /** A response for the client. */
  | { readonly kind: 'none' }
  | {
      readonly kind: 'replay';
      readonly instruction: ReplayInstruction;
      readonly transform: Transform;
      readonly cache: CacheChange;
    }
  | { readonly kind: 'invalid' };

/** How the edge's replay cache should change. */
type CacheChange =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'by-path';
      /** `/some/path/*`, optionally with a hostname in front. */
      readonly pattern: string;
      readonly ttlSeconds: number;
      readonly allowsBypass: boolean;
    }
  | { readonly kind: 'invalidate' };

const REPLAY_JSON = 'application/vnd.fly.replay+json';
const MAX_JSON_BYTES = 64 * 1024;
const NO_TRANSFORM: Transform = { deletedHeaders: [], setHeaders: {} };

/** Unless the result is `none`, the response is consumed and its body discarded. */
export async function readReplayRequest(response: IncomingMessage): Promise<ReplayRequest> {
  const header = response.headers['fly-replay'];
  if (header !== undefined) {
    response.resume();
    const instruction = parseReplay(String(header));
    if (!instruction) return { kind: 'invalid' };
    const cache = cacheChangeInHeaders(response.headers);
    return { kind: 'replay', instruction, transform: NO_TRANSFORM, cache };
  }
  const mediaType = response.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  return mediaType === REPLAY_JSON ? readJsonReplay(response) : { kind: 'none' };
}

/** https://fly.io/docs/networking/dynamic-request-routing/#path-based-replay-caching */
function cacheChangeInHeaders(headers: NodeJS.Dict<string | string[]>): CacheChange {
  const pattern = headers['fly-replay-cache']?.toString();
  if (pattern === undefined) return { kind: 'none' };
  if (pattern === 'invalidate') return { kind: 'invalidate' };
  const ttlSeconds = Number(headers['fly-replay-cache-ttl-secs']);
  const allowsBypass = headers['fly-replay-cache-allow-bypass'] === 'yes';
  return { kind: 'by-path', pattern, ttlSeconds, allowsBypass };
}

export function transformRequest<T extends { target: string; rawHeaders: readonly string[] }>(
  request: T,
  transform: Transform,
): T {
  const deleted = new Set(transform.deletedHeaders.map((name) => name.toLowerCase()));
  return {
    ...request,
    target: transform.path ?? request.target,
    rawHeaders: withHeaders(withoutNames(request.rawHeaders, deleted), transform.setHeaders),
  };
}

async function readJsonReplay(response: IncomingMessage): Promise<ReplayRequest> {
  const text = await readText(response);
  if (text === undefined) return { kind: 'invalid' };
  try {
    return replayInJson(JSON.parse(text));
  } catch {
    // Not JSON, or a field with another type than documented: both are errors of the app (PA03).
    return { kind: 'invalid' };
  }
}

/** Undefined if the text is too long or incomplete. */
async function readText(response: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_JSON_BYTES) return undefined;
      chunks.push(chunk);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks).toString();
}

function replayInJson(json: unknown): ReplayRequest {
  const { elsewhere, transform, cache, ...fields } = recordOf(json);
  const field = (name: string): string | undefined => textOf(fields[name]);
  // The two fields that are not plain text have the format of the header, which needs a target.
  const how = `elsewhere=true;timeout=${field('timeout') ?? ''};fallback=${field('fallback') ?? ''}`;
  const { timeoutMs, fallback } = parseReplay(how) ?? {};
  const instruction = withoutUndefined({
    instance: field('instance'),
    preferInstance: field('prefer_instance'),
    region: field('region'),
    app: field('app'),
    state: field('state'),
    isElsewhere: elsewhere === true || elsewhere === 'true' || undefined,
    timeoutMs,
    fallback,
  });
  const { instance, preferInstance, region, app, isElsewhere } = instruction;
  const namesTarget = (instance ?? preferInstance ?? region ?? app ?? isElsewhere) !== undefined;
  if (!namesTarget) return { kind: 'invalid' };
  return {
    kind: 'replay',
    instruction,
    transform: transformOf(transform),
    cache: cacheChangeInJson(cache),
  };
}

function cacheChangeInJson(json: unknown): CacheChange {
  if (json === undefined) return { kind: 'none' };
  const fields = recordOf(json);
  if (fields.invalidate === true) return { kind: 'invalidate' };
  const pattern = textOf(fields.prefix);
  if (pattern === undefined) return { kind: 'none' };
  const allowsBypass = fields.allow_bypass === true;
  return { kind: 'by-path', pattern, ttlSeconds: Number(fields.ttl), allowsBypass };
}

function transformOf(json: unknown): Transform {
  if (json === undefined) return NO_TRANSFORM;
  const fields = recordOf(json);
  const path = textOf(fields.path);
  const setHeaders = listOf(fields.set_headers).map((item) => {
    const { name, value } = recordOf(item);
    return [textOf(name) ?? '', textOf(value) ?? ''];
  });
  return {
    ...(path !== undefined && { path }),
    deletedHeaders: listOf(fields.delete_headers).map((name) => textOf(name) ?? ''),
    setHeaders: Object.fromEntries(setHeaders) as Record<string, string>,
  };
}

function recordOf(json: unknown): Record<string, unknown> {
  if (typeof json === 'object' && json !== null) return json as Record<string, unknown>;
  throw new TypeError('an object is expected');
}

function listOf(json: unknown): unknown[] {
  if (json === undefined) return [];
  if (Array.isArray(json)) return json;
  throw new TypeError('a list is expected');
}

function textOf(json: unknown): string | undefined {
  if (json === undefined || typeof json === 'string') return json;
  throw new TypeError('text is expected');
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Optional fields are absent rather than undefined (`exactOptionalPropertyTypes`). */
function withoutUndefined<T extends object>(fields: T): Defined<T> {
  const present = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(present) as Defined<T>;
}

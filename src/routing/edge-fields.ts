/** What the edge says of a request in fields of its own (Fly.io, "Request headers"). A client may forge each. */
import { isHeader } from '../protocols/heads.ts';

export interface EdgeFields {
  readonly requestId: string | undefined;
  /** The client's address, as the edge knows it. */
  readonly clientIp: string | undefined;
  readonly replaySource: string | undefined;
  readonly replayFailed: string | undefined;
  readonly preferredUnavailable: string | undefined;
  readonly replayCacheStatus: string | undefined;
}

/** Names, in lower case, of what is read here. */
export const EDGE_NAMES = [
  ...['fly-request-id', 'fly-replay-src', 'fly-replay-failed', 'fly-replay-cache-status'],
  ...['fly-preferred-instance-unavailable', 'fly-client-ip'],
];

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const NONE: EdgeFields = {
  requestId: undefined,
  clientIp: undefined,
  replaySource: undefined,
  replayFailed: undefined,
  preferredUnavailable: undefined,
  replayCacheStatus: undefined,
};

/** HOT PATH: the lengths of their names rule most fields out. */
export function readEdgeFields(rawHeaders: readonly string[]): EdgeFields {
  let fields: Mutable<EdgeFields> | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const key = keyOf(rawHeaders[i] ?? '');
    if (key !== undefined) (fields ??= { ...NONE })[key] = rawHeaders[i + 1] ?? '';
  }
  return fields ?? NONE;
}

function keyOf(name: string): keyof EdgeFields | undefined {
  switch (name.length) {
    case 13:
      return isHeader(name, 'fly-client-ip') ? 'clientIp' : undefined;
    case 14:
      if (isHeader(name, 'fly-request-id')) return 'requestId';
      return isHeader(name, 'fly-replay-src') ? 'replaySource' : undefined;
    case 17:
      return isHeader(name, 'fly-replay-failed') ? 'replayFailed' : undefined;
    case 23:
      return isHeader(name, 'fly-replay-cache-status') ? 'replayCacheStatus' : undefined;
    case 34:
      return isHeader(name, 'fly-preferred-instance-unavailable')
        ? 'preferredUnavailable'
        : undefined;
    default:
      return undefined;
  }
}

/** The first value under a lower-case name. */
export function headerValue(rawHeaders: readonly string[], lowerName: string): string | undefined {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (isHeader(rawHeaders[i], lowerName)) return rawHeaders[i + 1];
  }
  return undefined;
}

/** The same fields less all of one name, which is in lower case; the very array if there is none. */
export function withoutHeader(rawHeaders: readonly string[], lowerName: string): readonly string[] {
  if (headerValue(rawHeaders, lowerName) === undefined) return rawHeaders;
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    if (!isHeader(rawHeaders[i], lowerName))
      kept.push(rawHeaders[i] ?? '', rawHeaders[i + 1] ?? '');
  }
  return kept;
}

/** The same fields with one of them set to a value, in place of all there are of that name. */
export function withHeader(
  rawHeaders: readonly string[],
  lowerName: string,
  value: string,
): readonly string[] {
  return [...withoutHeader(rawHeaders, lowerName), lowerName, value];
}

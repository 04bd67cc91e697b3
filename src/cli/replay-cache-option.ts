/** A rule of the replay cache as one word of the command line. */
import { MIN_TTL_SECONDS, type ReplayCacheRule } from '../simulator/replay-cache.ts';

export const REPLAY_CACHE_FORM = '[PATH=]header|cookie:NAME[:SECONDS]';

/** As in Fly.io's own example. */
const DEFAULT_TTL_SECONDS = 300;
/** PATH may begin with a hostname; NAME is a token (RFC 9110 §5.6.2). */
const FORM = /^(?:([^=\s]*\/[^=\s]*)=)?(header|cookie):([\w!#$%&'*+.^`|~-]+)(?::(\d{1,9}))?$/;

/** `header:mcp-session-id`, `/app=cookie:sid:600`; undefined if it is none, or too short-lived. */
export function parseReplayCacheRule(text: string): ReplayCacheRule | undefined {
  const found = FORM.exec(text);
  if (!found) return undefined;
  const [, pathPrefix = '/', type, name = '', seconds = String(DEFAULT_TTL_SECONDS)] = found;
  const ttlSeconds = Number(seconds);
  if (ttlSeconds < MIN_TTL_SECONDS) return undefined;
  return { pathPrefix, ttlSeconds, type: type === 'cookie' ? 'cookie' : 'header', name };
}

/** What node:http lets through and a proxy must not: requests that two parties could read in two ways. */
import type { HeadFields } from './headers.ts';

/** `uri-host [ ":" port ]` (RFC 9110 §7.2): no user info, no path, no list. */
const HOST = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::\d{0,5})?$/;

/** Whether the request may be passed on; a request that may not is answered 400 and its connection closed. */
export function isWellFormed(httpVersion: string, fields: HeadFields): boolean {
  if (fields.hostCount > 1) return false;
  if (fields.host !== undefined && !HOST.test(fields.host)) return false;
  return isFramingClear(httpVersion, fields);
}

/** RFC 9112 §6.1: HTTP/1.0 knows no transfer coding, and one that we don't undo can't be passed on. */
function isFramingClear(httpVersion: string, fields: HeadFields): boolean {
  const { transferEncoding } = fields;
  if (transferEncoding === undefined) return true;
  if (fields.contentLength !== undefined) return false;
  return httpVersion !== '1.0' && transferEncoding.toLowerCase() === 'chunked';
}

/**
 * The target in origin-form (RFC 9112 §3.2.1). The absolute-form, which a server must accept too,
 * has to name the same host as `Host`; anything else is undefined.
 */
export function originForm(target: string, host: string | undefined): string | undefined {
  // A fragment is none of a request; two parties may cut the query off at another place.
  if (target.includes('#')) return undefined;
  if (target.startsWith('/')) return target;
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/i.exec(target);
  if (!absolute || absolute[1]?.toLowerCase() !== host?.toLowerCase()) return undefined;
  const rest = absolute[2] ?? '';
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** The target of a request and the host that it is for (RFC 9112 §3.2). */

/** `uri-host [ ":" port ]` (RFC 9110 §7.2): no user info, no path, no list, and not empty. */
const HOST = /^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~%!$&'()*+;=-]+)(?::\d{0,5})?$/;

/** Whether a text can be the value of `Host`. */
export function isHostValue(text: string): boolean {
  return HOST.test(text);
}

/** The bytes of the table `TARGET`, behind a slash. */
const ORIGIN_FORM = /^(?:\*|\/[!"$-~\x80-\xff]*)$/;

/** Whether a text can be a target in origin-form, or `*`. */
export function isOriginForm(text: string): boolean {
  return ORIGIN_FORM.test(text);
}

const ABSOLUTE_FORM = /^(https?):\/\/([^/?]*)(.*)$/is;
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: ':80', https: ':443' };

export interface EffectiveTarget {
  readonly target: string;
  readonly authority: string | undefined;
}

/**
 * The target in origin-form, or `*`, of a target that is not in origin-form. A server must accept the
 * absolute-form too, which has to name the same host as `Host`. Undefined for any other target.
 */
export function effectiveTarget(
  method: string,
  target: string,
  host: string | undefined,
): EffectiveTarget | undefined {
  if (target === '*') return method === 'OPTIONS' ? { target, authority: undefined } : undefined;
  const [, scheme = '', authority = '', rest = ''] = ABSOLUTE_FORM.exec(target) ?? [];
  if (authority === '' || !HOST.test(authority)) return undefined;
  const named = withoutDefaultPort(authority, scheme);
  if (host !== undefined && withoutDefaultPort(host, scheme) !== named) return undefined;
  if (rest === '' && method === 'OPTIONS') return { target: '*', authority };
  return { target: rest.startsWith('/') ? rest : `/${rest}`, authority };
}

function withoutDefaultPort(authority: string, scheme: string): string {
  const lower = authority.toLowerCase();
  const port = DEFAULT_PORTS[scheme.toLowerCase()] ?? '';
  if (lower.endsWith(port)) return lower.slice(0, -port.length);
  return lower.endsWith(':') ? lower.slice(0, -1) : lower;
}

/**
 * The protocols in `Upgrade` that ask for a tunnel: `h2c` and `HTTP/…` are other versions of the protocol
 * that is spoken here already, and may be ignored (RFC 9110 §7.8).
 */
export function tunnelProtocols(upgrade: string): string | undefined {
  if (upgrade === 'websocket') return upgrade;
  const wanted = upgrade
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol !== '' && !/^(?:h2c|http\/)/i.test(protocol));
  return wanted.length === 0 ? undefined : wanted.join(', ');
}

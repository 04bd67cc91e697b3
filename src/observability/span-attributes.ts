/**
 * What a span says of a request: OpenTelemetry's HTTP conventions for servers (1.45), and attributes of our own.
 * Nothing that may hold a session id: no query, no header.
 */
import type { ArrivedSpan, EndedSpan } from './tracing.ts';

type SpanAttributes = Readonly<Record<string, string | number | undefined>>;

/** RFC 9110 and RFC 5789. */
const KNOWN_METHODS: ReadonlySet<string> = new Set([
  ...['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'TRACE'],
]);

/** The name has no path: its values are unbounded. */
export function spanNameOf(method: string): string {
  return KNOWN_METHODS.has(method) ? method : 'HTTP';
}

export function arrivalAttributes(request: ArrivedSpan): SpanAttributes {
  const { method, scheme = 'http', host, clientAddress, minorVersion, userAgent } = request;
  const isKnown = KNOWN_METHODS.has(method);
  return {
    'http.request.method': isKnown ? method : '_OTHER',
    'http.request.method_original': isKnown ? undefined : kept(method),
    'url.scheme': scheme,
    ...serverAttributes(host),
    'client.address': kept(clientAddress),
    'network.protocol.name': 'http',
    'network.protocol.version': `1.${minorVersion}`,
    'user_agent.original': userAgent === undefined ? undefined : kept(userAgent),
  };
}

/** Of a path, with the mark where it was cut. */
const MAX_CHARACTERS = 257;

/**
 * Spans wait, and the collector may be slow: of a request they keep short copies. In V8 a slice refers to the whole
 * head that it was cut from.
 */
function kept(text: string): string {
  return Buffer.from(text.slice(0, MAX_CHARACTERS)).toString();
}

/** `Host`: a name or an address, in brackets if it is one of IPv6, and perhaps a port. */
const HOST = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/;

function serverAttributes(host: string | undefined): SpanAttributes {
  const [, address = '', port = ''] = HOST.exec(host ?? '') ?? [];
  if (address === '') return {};
  return {
    'server.address': kept(address.replace(/^\[(.*)\]$/, '$1')),
    'server.port': port === '' ? undefined : Number(port),
  };
}

export function endAttributes(request: EndedSpan): SpanAttributes {
  const { path, status, decision, why, reason, session, protocol, owner, requestId } = request;
  return {
    'url.path': kept(path),
    'http.response.status_code': status > 0 ? status : undefined,
    'error.type': isServerError(status) ? String(status) : undefined,
    'fly_affinity.decision': decision,
    'fly_affinity.why': why,
    'fly_affinity.reason': reason,
    'fly_affinity.session': session,
    'fly_affinity.protocol': protocol,
    'fly_affinity.owner': owner === undefined ? undefined : kept(owner),
    'fly_affinity.request_id': kept(requestId),
  };
}

/** What a client did wrong is no error of a server's span. */
export function isServerError(status: number): boolean {
  return status >= 500;
}

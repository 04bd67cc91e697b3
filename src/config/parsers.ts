/** Parses the text of a setting into a value, or into an error: what was expected and what was found. */
import { isIP } from 'node:net';
import type { AffinityCookieSetting } from '../protocols/affinity-cookie.ts';
import { parseMachineId, type MachineId } from '../session.ts';

/** Each mistake wants the setting's name in front: `must be ..., got "80a"`. */
type Parsed<Value> =
  | { readonly value: Value; readonly mistakes?: never }
  | { readonly value?: never; readonly mistakes: readonly string[] };
export type Parse<Value> = (text: string) => Parsed<Value>;

/** The value; or undefined, and its mistakes are added to `mistakes` with the name in front. */
export function valueOf<Value>(
  name: string,
  parsed: Parsed<Value>,
  mistakes: string[],
): Value | undefined {
  for (const mistake of parsed.mistakes ?? []) mistakes.push(`${name} ${mistake}`);
  return parsed.value;
}

/** Where a peer's sidecar listens. */
export interface PeerAddress {
  readonly machine: MachineId;
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
}

const MAX_SHOWN_CHARACTERS = 100;

export function mistaken(expected: string, text: string): { readonly mistakes: readonly string[] } {
  const isLong = text.length > MAX_SHOWN_CHARACTERS;
  const shown = isLong ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}…` : text;
  return { mistakes: [`must be ${expected}, got ${JSON.stringify(shown)}`] };
}

/** A mistake in a value that may not be shown. */
function mistakenSecret(expected: string, shown: string): { readonly mistakes: readonly string[] } {
  return { mistakes: [`must be ${expected}, got ${shown}`] };
}

export function integer(min: number, max: number, unit = ''): Parse<number> {
  const expected = `a whole number${unit} from ${min} to ${max}`;
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? { value } : mistaken(expected, text);
  };
}

/** Longest that a timer can wait: Node fires at once beyond 2^31 - 1 ms. */
const MAX_TIMER_MS = 2_147_483_647;

const MS_IN = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const DURATION = /^(\d{1,15})(ms|s|m|h|d)$/;

/** In milliseconds: `600000`, `600s` and `10m` are the same. */
export function milliseconds(min: number, max = MAX_TIMER_MS): Parse<number> {
  const expected = `a duration such as 10m, 600s or 250ms, or a whole number of milliseconds from ${min} to ${max}`;
  return (text) => {
    const [, digits = text, unit = 'ms'] = DURATION.exec(text) ?? [];
    const { value } = integer(0, Number.MAX_SAFE_INTEGER)(digits);
    const ms = value === undefined ? NaN : value * MS_IN[unit as keyof typeof MS_IN];
    return ms >= min && ms <= max ? { value: ms } : mistaken(expected, text);
  };
}

const MAX_PORT = 65_535;

/** 0 takes a free one. */
export const listeningPort: Parse<number> = (text) => {
  const parsed = integer(0, MAX_PORT)(text);
  return parsed.mistakes ? mistaken(`a port number from 0 to ${MAX_PORT}`, text) : parsed;
};

export const dialedPort: Parse<number> = (text) => {
  const parsed = integer(1, MAX_PORT)(text);
  return parsed.mistakes ? mistaken(`a port number from 1 to ${MAX_PORT}`, text) : parsed;
};

export const boolean: Parse<boolean> = (text) => {
  if (text === 'true' || text === '1') return { value: true };
  if (text === 'false' || text === '0') return { value: false };
  return mistaken('true or false', text);
};

export function oneOf<const Value extends string>(values: readonly Value[]): Parse<Value> {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    return value === undefined ? mistaken(`one of ${values.join(', ')}`, text) : { value };
  };
}

/** As {@link oneOf}, for values that some write in capitals. */
export function oneOfInAnyCase<const Value extends string>(values: readonly Value[]): Parse<Value> {
  return (text) => {
    const parsed = oneOf(values)(text.toLowerCase());
    return parsed.mistakes ? oneOf(values)(text) : parsed;
  };
}

export function matching(pattern: RegExp, expected: string): Parse<string> {
  return (text) => (pattern.test(text) ? { value: text } : mistaken(expected, text));
}

const HOST_NAME = /^[a-z0-9]([a-z0-9_.-]{0,251}[a-z0-9])?$/i;

/** An address, or a name such as `fly-local-6pn`. */
export const host: Parse<string> = (text) =>
  isIP(text) !== 0 || HOST_NAME.test(text)
    ? { value: text }
    : mistaken('an address or a name', text);

export const machineId: Parse<MachineId> = (text) => {
  const value = parseMachineId(text);
  return value ? { value } : mistaken('1 to 32 characters of a-z and 0-9', text);
};

/** Absolute or relative; never a folder or a URI. */
export const filePath: Parse<string> = (text) => {
  const isFile = !text.endsWith('/') && !text.includes('\0') && !/^[a-z]{2,}:/i.test(text);
  return isFile || text === ':memory:' ? { value: text } : mistaken('the path of a file', text);
};

/** Where the app listens: nothing but scheme, host and port. */
export const httpOrigin: Parse<URL> = (text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isOrigin = url?.protocol === 'http:' && url.port !== '0' && url.href === `${url.origin}/`;
  if (isOrigin) return { value: url };
  const expected = 'an http: origin without path or credentials, such as http://127.0.0.1:3000';
  return mistaken(expected, withoutSecrets(text));
};

const TRACES_PATH = 'v1/traces';

/** The URL for traces below that of a collector (OpenTelemetry, "OTLP Exporter Configuration"). */
export const collectorUrl: Parse<string> = (text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:';
  const isPlain = url?.href === `${url?.origin}${url?.pathname}`;
  if (!url || !isHttp || !isPlain) {
    const expected =
      'an http: or https: URL without credentials and query, such as http://127.0.0.1:4318';
    return mistaken(expected, withoutSecrets(text));
  }
  return { value: `${url.href.replace(/\/$/, '')}/${TRACES_PATH}` };
};

/** A password may stand before the `@`, a token in the query. */
function withoutSecrets(url: string): string {
  return url.replace(/^([a-z]+:\/\/)?.*@/is, '$1***@').replace(/[?#].*$/s, '?***');
}

/** The address of a DNS server, port 53 unless given, in the form that `Resolver.setServers` takes. */
export const dnsServer: Parse<string> = (text) => {
  const [, bracketed, plain, port = '53'] =
    /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text) ?? [];
  const address = isIP(text) === 6 ? text : (bracketed ?? plain ?? '');
  const family = isIP(address);
  const isServer = family !== 0 && (bracketed === undefined || family === 6);
  if (!isServer || dialedPort(port).mistakes) {
    return mistaken('the IP address of a DNS server, with or without port', text);
  }
  return { value: family === 6 ? `[${address}]:${port}` : `${address}:${port}` };
};

/** Which database takes the place of the file. */
export interface StoreUrl {
  readonly kind: 'memory' | 'redis' | 'postgres';
  /** As it was given, credentials included: never to be logged. */
  readonly href: string;
}

const STORE_SCHEMES = new Map<string, StoreUrl['kind']>([
  ['redis:', 'redis'],
  ['rediss:', 'redis'],
  ['postgres:', 'postgres'],
  ['postgresql:', 'postgres'],
]);

/** A URL may hold a password, so its scheme alone is shown. */
export const storeUrl: Parse<StoreUrl> = (text) => {
  if (text === 'memory:') return { value: { kind: 'memory', href: text } };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const kind = STORE_SCHEMES.get(url?.protocol ?? '');
  if (url && kind && url.hostname !== '') return { value: { kind, href: text } };
  const scheme = /^[a-z][a-z0-9+.-]*:/i.exec(text)?.[0] ?? '';
  return mistakenSecret(
    'redis://HOST, rediss://HOST, postgres://HOST/DATABASE or memory:',
    `${JSON.stringify(`${scheme}…`)} (the rest is not shown)`,
  );
};

const MIN_SECRET_CHARACTERS = 16;

/** A bearer token; what was given is not shown. */
export const secret: Parse<string> = (text) => {
  if (!/^[\x21-\x7e]*$/.test(text)) {
    return mistakenSecret('visible ASCII characters without spaces', 'others too (not shown)');
  }
  if (text.length >= MIN_SECRET_CHARACTERS) return { value: text };
  return mistakenSecret(
    `at least ${MIN_SECRET_CHARACTERS} characters long`,
    `${text.length} (not shown)`,
  );
};

type FleetSetting = 'auto' | 'off' | readonly PeerAddress[];

/** `id@host:peer-port,...`; an IPv6 address goes in brackets. */
const PEER = /^([^@]+)@(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d+)$/i;

export const fleet: Parse<FleetSetting> = (text) => {
  if (text === 'auto' || text === 'off') return { value: text };
  const peers: PeerAddress[] = [];
  const mistakes: string[] = [];
  for (const entry of text.split(',').map((part) => part.trim())) {
    const peer = parsePeer(entry);
    if (!peer)
      mistakes.push(...mistaken('auto, off, or a list of id@host:peer-port', entry).mistakes);
    else if (peers.some(({ machine }) => machine === peer.machine)) {
      mistakes.push(`must name each Machine once, got ${JSON.stringify(peer.machine)} again`);
    } else peers.push(peer);
  }
  return mistakes.length > 0 ? { mistakes } : { value: peers };
};

function parsePeer(entry: string): PeerAddress | undefined {
  const [, id = '', address, name, port = ''] = PEER.exec(entry) ?? [];
  const machine = machineId(id).value;
  const peerHost = address ?? host(name ?? '').value;
  const peerPort = dialedPort(port).value;
  const isAddress = address === undefined || isIP(address) === 6;
  if (!machine || peerHost === undefined || peerPort === undefined || !isAddress) return undefined;
  return { machine, host: peerHost, port: peerPort };
}

/**
 * A token (RFC 6265 §4.1.1), and attributes for pages in frames of other sites. Prefixes with rules of their own
 * need https, which this pattern does not check.
 */
const AFFINITY_COOKIE =
  /^(?!__(?:Host|Secure)-)([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64})(?:; *SameSite=(Lax|None(; *Partitioned)?))?$/i;

export const affinityCookie: Parse<AffinityCookieSetting> = (text) => {
  const [, name, sameSite = 'Lax', partitioned] = AFFINITY_COOKIE.exec(text) ?? [];
  if (name === undefined) {
    const expected =
      'the name of a cookie, without the prefixes __Host- and __Secure-, and behind it at most "; SameSite=None; Partitioned"';
    return mistaken(expected, text);
  }
  const isCrossSite = sameSite.toLowerCase() !== 'lax';
  return { value: { name, isCrossSite, isPartitioned: partitioned !== undefined } };
};

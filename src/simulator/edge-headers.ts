/** The headers of a request as the edge sends it to a Machine. Raw pairs, in order and case. */

/** What the edge adds to a request, in place of the client's own values. */
interface EdgeStamp {
  readonly clientIp: string;
  /** The port that the client connected to. */
  readonly port: number;
  /** The app's own address, the last entry of `X-Forwarded-For`. */
  readonly appAddress: string;
  /** The region of the edge, not of the Machine. */
  readonly region: string;
  readonly requestId: string;
}

/** Set only by the edge: a client's own are dropped (https://fly.io/docs/networking/request-headers/). */
const REPLACED: ReadonlySet<string> = new Set([
  'fly-client-ip',
  'fly-forwarded-port',
  'fly-region',
  'fly-request-id',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-ssl',
  'via',
]);

/** Headers of replays. Fly does not document whether the edge drops a client's own. */
const REPLAY_HEADERS: ReadonlySet<string> = new Set([
  'fly-replay-src',
  'fly-replay-failed',
  'fly-preferred-instance-unavailable',
  'fly-replay-cache-status',
]);

/** Fields of one connection (RFC 9110 §7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);

/** Needed to parse the message: they stay, even if `Connection` names them. */
const NEVER_REMOVED: ReadonlySet<string> = new Set(['host', 'content-length', 'content-type']);

/** Methods whose requests node's client does not frame as chunked by itself. */
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE']);

export const VIA = '1.1 fly.io';

interface IncomingHead {
  readonly method: string;
  readonly rawHeaders: readonly string[];
  readonly isUpgrade: boolean;
}

/** The client's headers, without those of its connection, and with those of the edge. */
export function headersForMachine(
  head: IncomingHead,
  stamp: EdgeStamp,
  options: { readonly stripsReplayHeaders: boolean },
): string[] {
  const raw = head.rawHeaders;
  const dropped = options.stripsReplayHeaders ? [...REPLACED, ...REPLAY_HEADERS] : REPLACED;
  const kept = withoutNames(withoutHopByHop(raw), new Set(dropped));
  kept.push(
    ...['Fly-Client-IP', stamp.clientIp],
    ...['Fly-Forwarded-Port', String(stamp.port)],
    ...['Fly-Region', stamp.region],
    ...['Fly-Request-Id', stamp.requestId],
    ...['X-Forwarded-For', listOf(raw, 'x-forwarded-for', stamp.clientIp, stamp.appAddress)],
    ...['X-Forwarded-Proto', 'http'],
    ...['X-Forwarded-Ssl', 'off'],
    ...['Via', listOf(raw, 'via', VIA)],
  );
  // The client may set the port itself.
  if (!findHeader(raw, 'x-forwarded-port')) kept.push('X-Forwarded-Port', String(stamp.port));
  return [...kept, ...framingOf(head)];
}

/** Sets each header, and replaces those of the same name. */
export function withHeaders(
  raw: readonly string[],
  set: Readonly<Record<string, string>>,
): string[] {
  const names = new Set(Object.keys(set).map((name) => name.toLowerCase()));
  return [...withoutNames(raw, names), ...Object.entries(set).flat()];
}

export function withoutNames(raw: readonly string[], names: ReadonlySet<string>): string[] {
  return headerPairs(raw)
    .filter(([name]) => !names.has(name.toLowerCase()))
    .flat();
}

/** Removes the fields of the connection, and those that `Connection` names. */
export function withoutHopByHop(raw: readonly string[]): string[] {
  const named = (findHeader(raw, 'connection') ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => !NEVER_REMOVED.has(name));
  return withoutNames(raw, new Set([...HOP_BY_HOP, ...named]));
}

/** All values under a lower-case name as one list, as several lines are one (RFC 9110 §5.3). */
function findHeader(raw: readonly string[], name: string): string | undefined {
  const values = headerPairs(raw).filter(([other]) => other.toLowerCase() === name);
  return values.length === 0 ? undefined : values.map(([, value]) => value).join(', ');
}

export function headerPairs(raw: readonly string[]): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) pairs.push([raw[i] ?? '', raw[i + 1] ?? '']);
  return pairs;
}

function listOf(raw: readonly string[], name: string, ...added: string[]): string {
  const sent = findHeader(raw, name);
  return [...(sent === undefined ? [] : [sent]), ...added].join(', ');
}

/** The framing of the body for the Machine: the same as the client's. */
function framingOf(head: IncomingHead): string[] {
  if (head.isUpgrade) {
    return ['Connection', 'Upgrade', 'Upgrade', findHeader(head.rawHeaders, 'upgrade') ?? ''];
  }
  if (findHeader(head.rawHeaders, 'transfer-encoding')) return ['Transfer-Encoding', 'chunked'];
  const hasLength = findHeader(head.rawHeaders, 'content-length') !== undefined;
  // Explicit, because node would frame a missing body as chunked.
  return hasLength || WITHOUT_BODY.has(head.method) ? [] : ['Content-Length', '0'];
}

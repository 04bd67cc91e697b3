/** The app: whether it accepts connections, and whether only the sidecar can reach it. */
import { readFile } from 'node:fs/promises';
import { connect, isIP } from 'node:net';
import type { Clock } from '../clock.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';
import { isLoopback } from './settings.ts';

export interface UpstreamFacts {
  readonly origin: string;
  /** Why no connection can be made; undefined if one can. */
  readonly connectError: string | undefined;
  /** Addresses on which something in this Machine listens on its port; undefined: can't be told. */
  readonly listeners: readonly string[] | undefined;
}

export function checkApp({ origin, connectError, listeners }: UpstreamFacts): Finding[] {
  if (connectError !== undefined) {
    return [
      error(
        `Nothing answers at ${origin} (${connectError}).`,
        'Requests are answered 502 until the app is there.',
        'start the app, or set UPSTREAM_URL to where it listens',
      ),
    ];
  }
  return [ok(`The app takes connections at ${origin}.`), ...judgeListeners(listeners)];
}

function judgeListeners(listeners: readonly string[] | undefined): Finding[] {
  if (listeners === undefined) {
    return [
      note(
        'On which addresses the app listens can not be told here.',
        'It should be on loopback alone.',
      ),
    ];
  }
  const open = listeners.filter((address) => !isLoopbackAddress(address));
  if (open.length === 0) return [];
  return [
    warning(
      `The app listens on ${open.join(', ')}, and not on loopback alone.`,
      'Every app of the organisation reaches it over the private network, past the sidecar.',
      'let the app listen on 127.0.0.1',
    ),
  ];
}

function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}

const LISTEN_STATE = '0A';

/**
 * Local addresses of the sockets that listen on a port, out of `/proc/net/tcp` or `/proc/net/tcp6`
 * (https://docs.kernel.org/networking/proc_net_tcp.html): four bytes each, in the order of the host.
 */
export function parseListeners(text: string, port: number): string[] {
  return text.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [hex = '', portHex = ''] = local.split(':');
    if (state !== LISTEN_STATE || parseInt(portHex, 16) !== port) return [];
    return addressOf(hex) ?? [];
  });
}

function addressOf(hex: string): string | undefined {
  const bytes = (hex.match(/[0-9A-F]{8}/gi) ?? []).flatMap((word) =>
    [...Buffer.from(word, 'hex')].reverse(),
  );
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) return undefined;
  const isMapped = bytes.slice(0, 12).every((byte, at) => byte === (at < 10 ? 0 : 0xff));
  if (isMapped) return `::ffff:${bytes.slice(12).join('.')}`;
  const groups = Array.from({ length: 8 }, (_, at) =>
    (((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0)).toString(16),
  );
  const address = groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
  return isIP(address) === 6 ? address : undefined;
}

const LIMIT_MS = 3_000;
const DEFAULT_HTTP_PORT = 80;

/** Never rejects. */
export async function probeApp(url: URL, clock: Clock): Promise<UpstreamFacts> {
  const port = url.port === '' ? DEFAULT_HTTP_PORT : Number(url.port);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const [connectError, listeners] = await Promise.all([
    withTimeout(clock, LIMIT_MS, (signal) => tryToConnect(host, port, signal), 'no answer in time'),
    isLoopback(url) ? listenersOn(port) : undefined,
  ]);
  return { origin: url.origin, connectError, listeners };
}

function tryToConnect(
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.on('error', (error) => resolve(errorCodeOf(error)));
  });
}

/** Undefined where the kernel does not tell. */
async function listenersOn(port: number): Promise<string[] | undefined> {
  try {
    const texts = await Promise.all(
      ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8')),
    );
    return texts.flatMap((text) => parseListeners(text, port));
  } catch {
    // Not Linux, or a kernel without IPv6: then it is said that it can't be told.
    return undefined;
  }
}

/** Checks the app: whether it accepts connections, and whether only the sidecar can reach it. */
import { readFile } from 'node:fs/promises';
import { connect, isIP } from 'node:net';
import type { Clock } from '../clock.ts';
import { errorCodeOf, withTimeout } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';
import { isLoopback } from './settings.ts';

interface UpstreamFacts {
  readonly origin: string;
  /** Why no connection can be made; undefined if one can. */
  readonly connectError: string | undefined;
  /** Addresses on this Machine with a listener on the app's port; undefined if they can't be read. */
  readonly listeners: readonly string[] | undefined;
}

export function checkApp({ origin, connectError, listeners }: UpstreamFacts): Finding[] {
  if (connectError !== undefined) {
    return [
      error(
        `The app does not respond at ${origin} (${connectError}).`,
        'The sidecar returns 502 until the app listens there.',
        'start the app, or set UPSTREAM_URL to its address',
      ),
    ];
  }
  return [ok(`The app accepts connections at ${origin}.`), ...checkListeners(listeners)];
}

function checkListeners(listeners: readonly string[] | undefined): Finding[] {
  if (listeners === undefined) {
    return [
      note(
        'Could not determine the addresses on which the app listens.',
        'The app should listen on loopback only.',
      ),
    ];
  }
  const open = listeners.filter((address) => !isLoopbackAddress(address));
  if (open.length === 0) return [];
  return [
    warning(
      `The app listens on ${open.join(', ')}, not on loopback only.`,
      'Every app of the organisation can reach it over the private network and bypass the sidecar.',
      'let the app listen on 127.0.0.1',
    ),
  ];
}

function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}

const LISTEN_STATE = '0A';

/**
 * Local addresses of the sockets that listen on a port, from `/proc/net/tcp` or `/proc/net/tcp6`
 * (https://docs.kernel.org/networking/proc_net_tcp.html). Addresses there are 32-bit words in host
 * byte order.
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

const CONNECT_TIMEOUT_MS = 3_000;
const DEFAULT_HTTP_PORT = 80;

/** Never rejects. */
export async function probeApp(url: URL, clock: Clock): Promise<UpstreamFacts> {
  const port = url.port === '' ? DEFAULT_HTTP_PORT : Number(url.port);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const [connectError, listeners] = await Promise.all([
    withTimeout(
      clock,
      CONNECT_TIMEOUT_MS,
      (signal) => tryToConnect(host, port, signal),
      'timed out',
    ),
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

/** Undefined if `/proc` does not list them. */
async function listenersOn(port: number): Promise<string[] | undefined> {
  try {
    const texts = await Promise.all(
      ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8')),
    );
    return texts.flatMap((text) => parseListeners(text, port));
  } catch {
    // Not Linux, or a kernel without IPv6: the finding reports that.
    return undefined;
  }
}

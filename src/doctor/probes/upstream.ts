/** Looks whether the app takes connections, and on which addresses it listens. Sends it nothing. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Clock } from '../../clock.ts';
import { isLoopback } from '../environment.ts';
import { parseListeners, type UpstreamFacts } from '../upstream.ts';
import { errorCodeOf, withTimeout } from './within.ts';

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

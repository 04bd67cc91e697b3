/** SignalR's own JavaScript client, over each of its transports. */
import assert from 'node:assert/strict';
import {
  HttpError,
  HttpTransportType,
  HubConnectionBuilder,
  LogLevel,
  type HubConnection,
} from '@microsoft/signalr';
import { Counted } from '../support/mcp-client.ts';
import type { Target } from '../support/target.ts';
import { retryWhileUnavailable, RetryLaterError } from '../support/retry-later.ts';

const TRANSPORTS = [
  HttpTransportType.WebSockets,
  HttpTransportType.ServerSentEvents,
  HttpTransportType.LongPolling,
];
const CALLS = 8;
/** How long a client sends nothing before it pings. */
const PING_EVERY_MS = 500;
/** Longer than a busy computer takes to respond. */
const SERVER_TIMEOUT_MS = 60_000;

export async function runSignalRScenario({ url }: Target, path = '/hub'): Promise<void> {
  await Promise.all(
    TRANSPORTS.map((transport) => retryWhileUnavailable(() => runOver(url + path, transport))),
  );
}

async function runOver(hub: string, transport: HttpTransportType): Promise<void> {
  const connection = new HubConnectionBuilder()
    .withUrl(hub, { transport })
    .withKeepAliveInterval(PING_EVERY_MS)
    .withServerTimeout(SERVER_TIMEOUT_MS)
    .configureLogging(LogLevel.None)
    .build();
  const lost = new Promise<never>((_, reject) => {
    connection.onclose((error) => {
      if (error) reject(error);
    });
  });
  try {
    await connection.start();
    await Promise.race([converse(connection, transport), lost]);
  } catch (error) {
    throw isLater(error) ? new RetryLaterError('later', { cause: error }) : error;
  } finally {
    await connection.stop();
  }
}

/** The client does not report the status of a rejected stream or socket. */
function isLater(error: unknown): boolean {
  if (error instanceof HttpError) return error.statusCode === 503;
  return error instanceof Error && error.message.includes('failed to connect');
}

async function converse(connection: HubConnection, transport: HttpTransportType): Promise<void> {
  const call = async (): Promise<Counted> => Counted.parse(await connection.invoke('count'));
  const { machine, pid } = await call();
  for (let count = 2; count <= CALLS; count += 1) {
    assert.deepEqual(await call(), { machine, pid, count }, HttpTransportType[transport]);
  }
  // The client pings when it has sent nothing for a while, and so does the server. One that polls
  // need not ping.
  if (transport !== HttpTransportType.LongPolling) {
    const pinged = new Promise((resolve) => connection.on('pinged', resolve));
    assert.deepEqual(await pinged, { machine, pid, count: CALLS }, HttpTransportType[transport]);
  }
  await assert.rejects(connection.invoke('nothing'), /no such method/);
}

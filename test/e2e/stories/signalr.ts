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
import { tellUntilHeard, ToldLater } from '../support/told-later.ts';

const TRANSPORTS = [
  HttpTransportType.WebSockets,
  HttpTransportType.ServerSentEvents,
  HttpTransportType.LongPolling,
];
const CALLS = 8;
/** So long a client is silent before it pings. */
const PING_EVERY_MS = 500;
/** Longer than a busy computer takes to answer. */
const SERVER_TIMEOUT_MS = 60_000;

export async function tellSignalRStory(target: Target): Promise<void> {
  await Promise.all(
    TRANSPORTS.map((transport) => tellUntilHeard(() => tellOver(target, transport))),
  );
}

async function tellOver({ url }: Target, transport: HttpTransportType): Promise<void> {
  const connection = new HubConnectionBuilder()
    .withUrl(`${url}/hub`, { transport })
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
    throw isLater(error) ? new ToldLater('later', { cause: error }) : error;
  } finally {
    await connection.stop();
  }
}

/** Of a stream or socket that was refused the client does not say with which status. */
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
  // The client pings when it has been silent for a while, and the server says so by itself. One that
  // polls need not ping.
  if (transport !== HttpTransportType.LongPolling) {
    const pinged = new Promise((resolve) => connection.on('pinged', resolve));
    assert.deepEqual(await pinged, { machine, pid, count: CALLS }, HttpTransportType[transport]);
  }
  await assert.rejects(connection.invoke('nothing'), /no such method/);
}

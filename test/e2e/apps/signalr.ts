/**
 * A small server of SignalR: `POST <path>/negotiate` returns the connection's token, and
 * `<path>?id=<token>` is the connection, over a WebSocket, an event stream or long polling
 * (https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/TransportProtocols.md).
 */
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { WebSocketServer } from 'ws';
import { respondJson, urlOf, type Door } from './door.ts';
import { noteEnded, noteOpened, noteRequest } from './journal.ts';
import { SignalRConnection } from './signalr-connection.ts';

const TRANSPORTS = ['WebSockets', 'ServerSentEvents', 'LongPolling'];
/** A poll without messages gets its response after this time, in ms. */
const POLL_MS = 5_000;

interface Session {
  readonly connection: SignalRConnection;
  /** The response of a pending poll. */
  poll: ServerResponse | undefined;
  hasPolled: boolean;
}

export function createSignalRDoor(path = '/hub'): Door {
  const sessions = new Map<string, Session>();
  const sockets = new WebSocketServer({ noServer: true });

  function negotiate(response: ServerResponse): void {
    const connectionToken = newId();
    const connection = new SignalRConnection(() => {
      sessions.get(connectionToken)?.poll?.writeHead(204).end();
      sessions.delete(connectionToken);
      noteEnded(connectionToken);
    });
    sessions.set(connectionToken, { connection, poll: undefined, hasPolled: false });
    noteOpened(connectionToken);
    respondJson(response, 200, {
      negotiateVersion: 1,
      connectionId: newId(),
      connectionToken,
      availableTransports: TRANSPORTS.map((transport) => ({
        transport,
        transferFormats: ['Text'],
      })),
    });
  }

  function sessionOf(request: IncomingMessage): Session | undefined {
    const id = urlOf(request).searchParams.get('id') ?? '';
    const session = sessions.get(id);
    noteRequest(request, id, session !== undefined);
    return session;
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (urlOf(request).pathname !== path) {
      negotiate(response);
      return;
    }
    const session = sessionOf(request);
    if (!session) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('No Connection with that ID');
    } else if (request.method === 'POST') {
      session.connection.receive(await text(request));
      response.writeHead(200).end();
    } else if (request.method === 'DELETE') {
      session.connection.end();
      response.writeHead(202).end();
    } else if (request.headers.accept === 'text/event-stream') {
      stream(session, response);
    } else {
      poll(session, response);
    }
  }

  return {
    paths: [path, `${path}/negotiate`],
    handle,
    upgrade: (request, socket, head) => {
      const connection = sessionOf(request)?.connection;
      if (!connection) {
        socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      sockets.handleUpgrade(request, socket, head, (client) => {
        connection.deliverBy((message) => client.send(message));
        client.on('message', (message: Buffer) => connection.receive(message.toString()));
        client.once('close', () => connection.end());
      });
    },
  };
}

/** 22 characters, as ASP.NET Core mints them. */
function newId(): string {
  return randomBytes(16).toString('base64url');
}

/** Lives as long as its connection, and the reverse. */
function stream({ connection }: Session, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  // So that the client sees that it is open.
  response.write(':\r\n\r\n');
  connection.deliverBy((message) => response.write(`data: ${message}\r\n\r\n`));
  response.once('close', () => connection.end());
}

/** The first one is responded to immediately: it only opens the connection. */
function poll(session: Session, response: ServerResponse): void {
  const isFirst = !session.hasPolled;
  session.hasPolled = true;
  if (isFirst) {
    response.writeHead(200).end();
    return;
  }
  session.poll = response;
  const respond = (message?: string): void => {
    session.connection.deliverLater();
    session.poll = undefined;
    response.writeHead(200, { 'content-type': 'text/plain' }).end(message);
  };
  const timer = setTimeout(respond, POLL_MS).unref();
  response.once('close', () => {
    clearTimeout(timer);
    if (session.poll !== response) return;
    session.connection.deliverLater();
    session.poll = undefined;
  });
  session.connection.deliverBy(respond);
}

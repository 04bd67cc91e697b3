/** The HTTP wire: node:http servers for the edge and for the peers, one exchange a request. */
import http, {
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { Exchange } from './exchange.ts';
import type { ExchangeParts, ReceivedRequest } from './exchange-parts.ts';
import { readFields, type RawHeaders } from './headers.ts';
import { OpenExchanges } from './open-exchanges.ts';
import { FORWARD_PATH, REFUSED_HEADER, unwrapHead, type PeerRefusal } from './peer-wire.ts';
import { hasBody } from './request-body.ts';
import { acceptUpgrade, tunnelProtocols } from './websocket.ts';
import { isWellFormed, originForm } from './wellformed.ts';

/** The edge pools its connections; if we closed one first, the request that crosses would fail. In ms. */
const KEEP_ALIVE_TIMEOUT_MS = 620_000;
/** Room for large cookies and tokens, in bytes; beyond it 431. */
const MAX_HEADER_BYTES = 32_768;
/** How long a client may take to send its head, in ms, looked at every `HEAD_CHECK_INTERVAL_MS`. */
const HEAD_TIMEOUT_MS = 20_000;
const HEAD_CHECK_INTERVAL_MS = 5_000;
/** What may wait for a slow client per connection, in bytes: large answers pause seldom, memory stays bounded. */
const WRITE_BUFFER_BYTES = 262_144;

const BAD_REQUEST =
  'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n' +
  'Content-Length: 35\r\n\r\nThe request is not valid HTTP/1.1.\n';

/** What else listens on the peer listener: questions and announcements. False: none of its paths. */
export type PeerService = (req: IncomingMessage, res: ServerResponse) => boolean;

export interface HttpWire {
  /** The listener for the edge. Everything goes to the app: no path is taken away from it. */
  readonly edgeServer: Server;
  /** The listener for the sidecars of other Machines. */
  readonly peerServer: Server;
  /** Requests under way on either. */
  readonly open: Pick<OpenExchanges, 'size' | typeof Symbol.iterator>;
}

export interface HttpWireParts extends ExchangeParts {
  readonly self: MachineId;
  readonly peerService: PeerService;
  /** Whether the address belongs to a Machine of the app. */
  readonly isPeerAddress: (address: string) => boolean;
  /** Never rejects. */
  readonly lookForNewPeers: () => Promise<unknown>;
}

/** What a listener does with a request; `extra` says how it came. */
type OnRequest = (req: IncomingMessage, res: ServerResponse, extra: Extra) => void;
type Extra = Pick<ReceivedRequest, 'awaitsContinue' | 'tunnel'>;

/** A request as the client has made it, whichever listener it came to. */
interface Arrival {
  readonly from: 'edge' | 'peer';
  readonly target: string;
  readonly rawHeaders: RawHeaders;
  readonly extra: Extra;
}

const PLAIN: Extra = { awaitsContinue: false, tunnel: undefined };
const AWAITS_CONTINUE: Extra = { awaitsContinue: true, tunnel: undefined };

export function createHttpWire(parts: HttpWireParts): HttpWire {
  const open = new OpenExchanges();

  function begin(req: IncomingMessage, res: ServerResponse, arrival: Arrival): void {
    const { from, rawHeaders, extra } = arrival;
    const { awaitsContinue, tunnel } = extra;
    const fields = readFields(rawHeaders);
    const target = originForm(arrival.target, fields.host);
    const head = { method: req.method ?? 'GET', target: target ?? '', rawHeaders: fields.endToEnd };
    const exchange = new Exchange(req, res, { from, head, fields, awaitsContinue, tunnel }, parts);
    open.add(exchange);
    exchange.onceClosed(() => open.remove(exchange));
    const isMalformed = target === undefined || !isWellFormed(req.httpVersion, fields);
    if (isMalformed) parts.handler.refuse(exchange, 'malformed-request');
    else parts.handler.handle(exchange);
  }

  function onEdgeRequest(req: IncomingMessage, res: ServerResponse, extra: Extra): void {
    const { rawHeaders, url: target = '' } = req;
    begin(req, res, { from: 'edge', target, rawHeaders, extra });
  }

  function onPeerRequest(req: IncomingMessage, res: ServerResponse, extra: Extra): void {
    if (parts.isPeerAddress(req.socket.remoteAddress ?? '')) onPeer(req, res, extra);
    else void onStranger(req, res, extra);
  }

  /** It may be a Machine that has just started: one more look at the list tells. */
  async function onStranger(
    req: IncomingMessage,
    res: ServerResponse,
    extra: Extra,
  ): Promise<void> {
    await parts.lookForNewPeers();
    if (parts.isPeerAddress(req.socket.remoteAddress ?? '')) onPeer(req, res, extra);
    else answerShortly(res, 403, 'Only the sidecars of this app may ask here.\n', 'stranger');
  }

  function onPeer(req: IncomingMessage, res: ServerResponse, extra: Extra): void {
    if (req.url === FORWARD_PATH) {
      onForward(req, res, extra);
    } else if (!parts.peerService(req, res)) {
      answerShortly(res, 404, 'There is nothing at this path.\n');
    }
  }

  function onForward(req: IncomingMessage, res: ServerResponse, extra: Extra): void {
    const received = unwrapHead(req.rawHeaders);
    if (!received) answerShortly(res, 400, 'A forward names its target and its Machine.\n');
    else if (received.machine !== parts.self) {
      answerShortly(res, 421, 'Another Machine is meant.\n', 'not-meant');
    } else begin(req, res, { from: 'peer', ...received, extra });
  }

  const edgeServer = createServer(onEdgeRequest, open, parts.clock);
  const peerServer = createServer(onPeerRequest, open, parts.clock);
  return { edgeServer, peerServer, open };
}

function createServer(onRequest: OnRequest, open: Iterable<Exchange>, clock: Clock): Server {
  const options: ServerOptions = {
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEAD_TIMEOUT_MS,
    connectionsCheckingInterval: HEAD_CHECK_INTERVAL_MS,
    // An upload may take as long as it takes; the edge bounds silence.
    requestTimeout: 0,
    highWaterMark: WRITE_BUFFER_BYTES,
    noDelay: true,
    // Since Node.js 24.9: what is no tunnel stays an ordinary request, with its body.
    shouldUpgradeCallback: (req: IncomingMessage) => tunnelProtocols(req) !== undefined,
  };
  const server = http.createServer(options);
  server.on('request', (req: IncomingMessage, res: ServerResponse) => onRequest(req, res, PLAIN));
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) =>
    onRequest(req, res, AWAITS_CONTINUE),
  );
  server.on('upgrade', (req: IncomingMessage, socket: Socket, first: Buffer) => {
    const { res, tunnel } = acceptUpgrade(req, socket, first, clock);
    if (tunnel.protocols !== '') onRequest(req, res, { awaitsContinue: false, tunnel });
    else answerUnparsed(req, res, onRequest);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) =>
    refuseGarbage(error, socket, open),
  );
  return server;
}

/** Node.js before 24.9 has ended its parser: a body could only be lost, so it is not begun with. */
function answerUnparsed(req: IncomingMessage, res: ServerResponse, onRequest: OnRequest): void {
  if (hasBody(readFields(req.rawHeaders))) {
    answerShortly(res, 400, 'A request with a body can not ask for an upgrade.\n');
  } else onRequest(req, res, PLAIN);
}

/** Garbage behind a request that is under way is its body: it gets the one answer that is due. */
function refuseGarbage(
  error: NodeJS.ErrnoException,
  socket: Duplex,
  open: Iterable<Exchange>,
): void {
  for (const exchange of open) {
    if (exchange.socket !== socket) continue;
    // An end in the middle of a body is a client that has left, and nobody is there to be told.
    if (error.code === 'HPE_INVALID_EOF_STATE') exchange.destroy();
    else exchange.refuseBody(error);
    return;
  }
  if (!socket.writable || error.code === 'ECONNRESET') socket.destroy(error);
  else socket.end(garbageAnswer(error.code), () => socket.destroy());
}

function garbageAnswer(code: string | undefined): string {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return 'HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';
  }
  return BAD_REQUEST;
}

function answerShortly(
  res: ServerResponse,
  statusCode: number,
  text: string,
  refusal?: PeerRefusal,
): void {
  res.writeHead(statusCode, {
    ...(refusal && { [REFUSED_HEADER]: refusal }),
    'content-type': 'text/plain',
    'content-length': Buffer.byteLength(text),
    connection: 'close',
  });
  res.end(text);
}

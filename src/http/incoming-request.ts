/**
 * One request of a client, and the only way to respond to it. Its connection releases it when the response
 * is finished or the client has disconnected. From then on its methods do nothing, so that no response can
 * end up in that of another request.
 */
import type { RequestConnection } from './request-connection.ts';
import { requestFramingOf, type MalformedRequest, type ParsedRequestHead } from './request-head.ts';
import {
  MAX_WAITING_BYTES,
  writeBytes,
  writeText,
  type BufferOwnership,
  type TunnelEnd,
} from './socket.ts';
import { CONTINUE, formatLocalHead, latin1OfUtf8, type LocalResponse } from './response-head.ts';

/** Serves a request. Gets what the client sends after the head. */
export interface IncomingRequestListener {
  /** Bytes of the body, framed as they came. They may be kept. */
  onRequestBody(bytes: Buffer): void;
  onRequestEnd(): void;
  /** The body is malformed, or has stopped: the client still needs a response. */
  onMalformedBody(why: MalformedRequest): void;
  /** The client can take more of the response now. */
  onClientWritable(): void;
  /** The client has disconnected. Nothing is called after it. */
  onClientDisconnected(): void;
}

export class IncomingRequest {
  readonly head: ParsedRequestHead;
  /** The address of the client, as the socket has it. */
  readonly remoteAddress: string;
  /** The body has been received whole. */
  isBodyComplete: boolean;
  /** A final head was given. */
  isResponding = false;
  /** Body bytes go to the listener; until then they wait here, and beyond a bound in the kernel. */
  isReadingBody = false;
  /** The whole body is to wait here: the listener hears when it is complete. */
  isHoldingBody = false;
  /** The response is complete, but the connection waits for the rest of the request's body. */
  isAwaitingBody = false;
  /** The response ends with the stream of its upstream, and not after a known number of bytes. */
  isOpenEnded = false;
  /** Bytes of the body that came with the head or since, and were not delivered. */
  earlyBytes = 0;
  #connection: RequestConnection | undefined;
  #listener: IncomingRequestListener | undefined;
  /** Body bytes that came before there was a listener. */
  #early: Buffer[] = [];
  #unsentHead = '';
  #closes = false;
  /** Only the end of the connection ends the body. */
  #endsByClose = false;
  #hasContinued = false;

  constructor(connection: RequestConnection, head: ParsedRequestHead, isBodyComplete: boolean) {
    this.#connection = connection;
    this.head = head;
    this.isBodyComplete = isBodyComplete;
    this.remoteAddress = connection.socket.remoteAddress ?? '';
    this.#closes = head.wantsClose;
  }

  /** One text for each connection that is open. */
  get connectionName(): string {
    return `${this.remoteAddress} ${this.#connection?.socket.remotePort ?? ''}`;
  }

  /** The client's connection is open, and the response is not finished. */
  get isOpen(): boolean {
    return this.#connection !== undefined;
  }

  get hasBody(): boolean {
    return requestFramingOf(this.head) !== 'none';
  }

  get isListenedTo(): boolean {
    return this.#listener !== undefined;
  }

  /** Passes what the client sends to the listener from now on. */
  listen(listener: IncomingRequestListener): void {
    this.#listener = listener;
  }

  /** The body bytes that are here already, in one piece; they are not delivered again. */
  takeEarly(): Buffer | undefined {
    const early = this.#early;
    if (early.length === 0) return undefined;
    this.#early = [];
    this.earlyBytes = 0;
    // A client that pauses now causes no event that would count anew.
    this.#connection?.account();
    return early.length === 1 ? early[0] : Buffer.concat(early);
  }

  /** A copy of what {@link takeEarly} would take. */
  peekEarly(): Buffer {
    return Buffer.concat(this.#early);
  }

  /** Reads the body without delivering it. It must be short enough to wait here. */
  holdBody(): void {
    this.isHoldingBody = true;
    this.writeContinue();
  }

  readBody(): void {
    this.isReadingBody = true;
    this.#connection?.setBodyPaused(false);
  }

  pauseBody(): void {
    this.#connection?.setBodyPaused(true);
  }

  resumeBody(): void {
    this.#connection?.setBodyPaused(false);
  }

  /** Sends the 100 (Continue) that the client waits for. */
  writeContinue(): void {
    if (!this.head.expectsContinue || this.#hasContinued || this.isResponding) return;
    this.#hasContinued = true;
    this.writeInterim(CONTINUE);
  }

  /**
   * A whole interim head. HTTP/1.0 has none (RFC 9110 §15.2). A client that does not read gets only as many
   * as fit in its buffers: nothing else limits how many an upstream sends.
   */
  writeInterim(text: string): void {
    const connection = this.#connection;
    if (!connection || this.isResponding || this.head.minorVersion === 0) return;
    if (connection.socket.writableLength >= MAX_WAITING_BYTES) return;
    writeText(connection.socket, text);
  }

  /**
   * The upstream takes no more of the body: if the rest is too long to be dropped, the connection ends
   * with the response, whose head says so (RFC 9112 §9.6).
   */
  endBodyEarly(): void {
    const connection = this.#connection;
    if (connection && !this.#keepsInStep(connection)) this.#closes = true;
  }

  /**
   * Begins the response: `text` is the status line and the fields, without those of the connection and
   * without the empty line. It leaves with the first bytes of the body, or with {@link flush}.
   */
  writeHead(text: string, isOpenEnded: boolean, endsByClose: boolean): void {
    const connection = this.#connection;
    if (!connection) return;
    this.isResponding = true;
    this.isOpenEnded = isOpenEnded;
    this.#endsByClose = endsByClose;
    // A client whose upgrade failed may have sent bytes of the other protocol already.
    const isRefusedUpgrade = this.head.upgrade !== undefined;
    this.#closes ||= endsByClose || isRefusedUpgrade || connection.isEnding || this.#isOutOfStep();
    let options = '';
    if (this.#closes) options = 'Connection: close\r\n';
    else if (this.head.minorVersion === 0) options = 'Connection: keep-alive\r\n';
    this.#unsentHead = `${text}${options}\r\n`;
  }

  /** Sends the head if it has not left yet. */
  flush(): void {
    if (this.#unsentHead !== '') this.writeText('');
  }

  /** Whether more may be written now; if not, `onWritable` of the listener follows. */
  write(bytes: Buffer, start: number, end: number, ownership: BufferOwnership): boolean {
    const connection = this.#connection;
    if (!connection) return true;
    const prefix = this.#unsentHead;
    this.#unsentHead = '';
    const mayGoOn = writeBytes(connection.socket, prefix, bytes, start, end, ownership);
    if (!mayGoOn) connection.account();
    return mayGoOn;
  }

  /** Writes the framing of chunks around a body, or a short chunk; one character a byte. As {@link write}. */
  writeText(text: string): boolean {
    const connection = this.#connection;
    if (!connection) return true;
    const prefix = this.#unsentHead;
    this.#unsentHead = '';
    const mayGoOn = writeText(connection.socket, prefix + text);
    if (!mayGoOn) connection.account();
    return mayGoOn;
  }

  /** The response is complete; {@link end} follows behind the request's body. */
  awaitBody(): void {
    this.isAwaitingBody = true;
    this.flush();
  }

  /**
   * The response is complete. The rest of the request's body is dropped, as the client may send its next
   * request on this connection.
   */
  end(): void {
    this.flush();
    const connection = this.#detach();
    connection?.finish(this.#closes || !this.#keepsInStep(connection));
  }

  /** Ends the response so that the client does not take it for complete. */
  cut(): void {
    const connection = this.#detach();
    // Without a length and without chunks, only a reset shows that the response is not complete. Otherwise
    // a normal close delivers what is in flight, which may be the end of an earlier response.
    if (this.#endsByClose) connection?.destroy(true);
    else connection?.finish(true);
  }

  /** Sends a local response. `closes`: the connection reads nothing more. */
  respond(response: LocalResponse, closes = false): void {
    const connection = this.#connection;
    if (!connection || this.isResponding) return;
    if (closes || !this.#keepsInStep(connection)) this.#closes = true;
    this.writeHead(formatLocalHead(response), false, false);
    if (this.head.method !== 'HEAD') this.#unsentHead += latin1OfUtf8(response.body);
    this.flush();
    this.#detach()?.finish(this.#closes);
  }

  /** Switches protocols: `text` is the whole head. The client's bytes are the tunnel's from now on. */
  openTunnel(text: string, upstream: TunnelEnd): TunnelEnd | undefined {
    const connection = this.#connection;
    if (!connection) return undefined;
    this.isResponding = true;
    writeText(connection.socket, text);
    return connection.openTunnel(upstream);
  }

  /** Ends the client's connection. */
  destroy(): void {
    this.#connection?.destroy(false);
  }

  // The connection calls what follows.

  deliver(bytes: Buffer): void {
    if (this.isReadingBody) this.#listener?.onRequestBody(bytes);
    else {
      this.#early.push(bytes);
      this.earlyBytes += bytes.length;
    }
  }

  deliverEnd(): void {
    this.isBodyComplete = true;
    if (this.isOpen && (this.isReadingBody || this.isHoldingBody)) this.#listener?.onRequestEnd();
  }

  deliverBroken(why: MalformedRequest): void {
    // Where the next request would begin is not known.
    this.#closes = true;
    if (this.isResponding || !this.#listener) this.breakOff();
    else this.#listener.onMalformedBody(why);
  }

  /** The rest of the request can't be read, and no response is due. */
  breakOff(): void {
    this.cut();
    this.#listener?.onClientDisconnected();
  }

  deliverWritable(): void {
    this.#listener?.onClientWritable();
  }

  deliverGone(): void {
    this.#connection = undefined;
    this.#listener?.onClientDisconnected();
  }

  /** The next request can be found, though not all of this one was read. */
  #keepsInStep(connection: RequestConnection): boolean {
    return this.isBodyComplete || (!this.#isOutOfStep() && connection.mayDrainBody());
  }

  /** The client got no 100 (Continue), so what it sends next may be the body or a new request. */
  #isOutOfStep(): boolean {
    return this.head.expectsContinue && !this.#hasContinued && !this.isBodyComplete;
  }

  #detach(): RequestConnection | undefined {
    const connection = this.#connection;
    this.#connection = undefined;
    return connection;
  }
}

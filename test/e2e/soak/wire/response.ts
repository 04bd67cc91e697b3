/** Reads responses from a connection, with strict framing rules (RFC 9112 §6). */
import { lost, wrong } from '../failure.ts';
import type { Connection } from './connection.ts';

export interface ResponseHead {
  readonly status: number;
  /** Names in lower case; the values of repeated fields are joined. */
  readonly fields: ReadonlyMap<string, string>;
}

export interface Response extends ResponseHead {
  /** Length of the body. */
  readonly bytes: number;
  /** Another request may follow on this connection. */
  readonly isKeptAlive: boolean;
}

/** Receives the body of a response, piece by piece. */
export type Sink = (piece: Buffer) => void | Promise<void>;

export interface Reading {
  readonly method: string;
  readonly isHttp10: boolean;
  /** Selects the sink of the body, once the head is known. */
  readonly sinkFor: (head: ResponseHead) => Sink;
  readonly onContinue?: () => void;
}

const PIECE_BYTES = 65_536;
const STATUS_LINE = /^HTTP\/1\.1 (\d{3})(?: .*)?$/;
const FIELD_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/;

export async function readResponse(connection: Connection, reading: Reading): Promise<Response> {
  const head = await readFinalHead(connection, reading);
  const sink = reading.sinkFor(head);
  const framing = framingOf(head, reading);
  const bytes = await readBody(connection, framing, sink);
  const isClosing = /\bclose\b/i.test(head.fields.get('connection') ?? '');
  const isKeptAlive = !isClosing && !reading.isHttp10 && framing.kind !== 'until-close';
  return { ...head, bytes, isKeptAlive };
}

async function readFinalHead(connection: Connection, reading: Reading): Promise<ResponseHead> {
  for (;;) {
    const text = await connection.readHead();
    if (text === undefined) throw lost('the connection ended without a response');
    const head = parseHead(text);
    if (head.status >= 200 || head.status === 101) return head;
    if (head.status !== 100 || !reading.onContinue) throw wrong(`an interim ${head.status}`);
    reading.onContinue();
  }
}

function parseHead(text: string): ResponseHead {
  const [statusLine = '', ...lines] = text.split('\r\n');
  const status = STATUS_LINE.exec(statusLine)?.[1];
  if (status === undefined) throw wrong(`no status line: ${JSON.stringify(statusLine)}`);
  const fields = new Map<string, string>();
  for (const line of lines) {
    const [, name, value = ''] = FIELD_LINE.exec(line) ?? [];
    if (name === undefined) throw wrong(`no field line: ${JSON.stringify(line)}`);
    const before = fields.get(name.toLowerCase());
    fields.set(name.toLowerCase(), before === undefined ? value : `${before}, ${value}`);
  }
  return { status: Number(status), fields };
}

type Framing =
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'until-close' };

function framingOf({ status, fields }: ResponseHead, { method, isHttp10 }: Reading): Framing {
  const coding = fields.get('transfer-encoding');
  const length = fields.get('content-length');
  if (coding !== undefined && (coding !== 'chunked' || length !== undefined || isHttp10)) {
    throw wrong(`framed by transfer-encoding "${coding}" and content-length "${length ?? ''}"`);
  }
  if (length !== undefined && !/^\d+$/.test(length)) throw wrong(`content-length "${length}"`);
  if (method === 'HEAD' || status === 204 || status === 304 || status === 101) {
    return { kind: 'length', length: 0 };
  }
  if (coding !== undefined) return { kind: 'chunked' };
  return length === undefined
    ? { kind: 'until-close' }
    : { kind: 'length', length: Number(length) };
}

async function readBody(connection: Connection, framing: Framing, sink: Sink): Promise<number> {
  switch (framing.kind) {
    case 'length':
      await readExactly(connection, framing.length, sink);
      return framing.length;
    case 'chunked':
      return readChunks(connection, sink);
    case 'until-close':
      return readUntilEnd(connection, sink);
  }
}

async function readExactly(connection: Connection, length: number, sink: Sink): Promise<void> {
  let left = length;
  while (left > 0) {
    const piece = await connection.read(Math.min(left, PIECE_BYTES));
    if (!piece) throw lost(`the connection ended ${left} bytes before the end of the body`);
    left -= piece.length;
    await sink(piece);
  }
}

async function readChunks(connection: Connection, sink: Sink): Promise<number> {
  let bytes = 0;
  for (;;) {
    const sizeLine = await connection.readLine();
    const size = /^([0-9a-f]{1,8})$/i.exec(sizeLine)?.[1];
    if (size === undefined) throw wrong(`a chunk of size ${JSON.stringify(sizeLine)}`);
    const length = parseInt(size, 16);
    await readExactly(connection, length, sink);
    bytes += length;
    const end = await connection.readLine();
    if (end !== '') throw wrong(`${JSON.stringify(end)} behind a chunk`);
    if (length === 0) return bytes;
  }
}

async function readUntilEnd(connection: Connection, sink: Sink): Promise<number> {
  let bytes = 0;
  for (;;) {
    const piece = await connection.read(PIECE_BYTES);
    if (!piece) return bytes;
    bytes += piece.length;
    await sink(piece);
  }
}

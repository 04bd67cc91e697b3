/** A client of WebSockets: the `ws` package, with replays followed as Fly Proxy follows them. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import WebSocket from 'ws';
import { systemClock } from '../../../../src/clock.ts';
import { orLater, type Way } from '../call.ts';
import { checkId, checkStatus } from '../send-request.ts';
import { lost, wrong } from '../failure.ts';
import type { Machine } from '../machine.ts';
import { replaySource, replayTarget } from '../replays.ts';
import type { Step } from '../step.ts';
import type { ResponseHead } from './response.ts';

const IDLE_TIMEOUT_MS = 30_000;
const PATH = '/ws';

export interface Message {
  readonly bytes: Buffer;
  readonly isBinary: boolean;
}

export interface OpenWebSocket {
  send(message: Message): void;
  /** The next message; rejects if the connection ends before. */
  next(): Promise<Message>;
  close(): void;
  terminate(): void;
  /** Resolves with the code of the close. */
  closed(): Promise<number>;
}

/** Rejects unless the right app has opened it. */
export function openWebSocket(step: Step, way: Way): Promise<OpenWebSocket> {
  return orLater(step, () => tryToOpen(step, way));
}

async function tryToOpen(step: Step, { to, fields, owner }: Way): Promise<OpenWebSocket> {
  const id = step.beginRequest(to, owner);
  const first = await connect(step, to, fields, id);
  if ('socket' in first) return checked(first, owner ?? to.name, id);
  const next = replayTarget(step, first.rejection, to);
  if (!next) {
    checkStatus(first.rejection, 101);
    throw wrong('101 without a WebSocket');
  }
  step.replayTo(next);
  const again = await connect(step, next, [...fields, replaySource(first.rejection, to)], id);
  if ('socket' in again) return checked(again, owner ?? next.name, id);
  checkStatus(again.rejection, 101);
  throw wrong('101 without a WebSocket');
}

interface Opened {
  readonly socket: OpenWebSocket;
  readonly head: ResponseHead;
}

type Attempt = Opened | { readonly rejection: ResponseHead };

function checked({ socket, head }: Opened, app: string, id: string): OpenWebSocket {
  checkId(head, id);
  const respondingApp = head.fields.get('x-soak-app') ?? '';
  if (respondingApp === app) return socket;
  socket.terminate();
  throw wrong(`${respondingApp} opened the WebSocket in place of ${app}`);
}

function connect(
  step: Step,
  machine: Machine,
  fields: readonly string[],
  id: string,
): Promise<Attempt> {
  const { ledger } = step.around;
  ledger.sent(machine.name, id);
  const headers = Object.fromEntries(
    [...fields, `fly-request-id: ${id}`, `x-soak-id: ${id}`].map((line) => line.split(': ')),
  ) as Record<string, string>;
  const socket = new WebSocket(`ws://127.0.0.1:${machine.port}${PATH}`, {
    headers,
    perMessageDeflate: false,
    handshakeTimeout: IDLE_TIMEOUT_MS,
  });
  let head: ResponseHead | undefined;
  const opened = open(socket);
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => reject(lost(`no WebSocket: ${error.message}`)));
    socket.once('upgrade', (response) => (head = headOf(response)));
    socket.once('open', () => {
      ledger.recordResponse(machine.name, id, 101);
      resolve({ socket: opened, head: head ?? { status: 101, fields: new Map() } });
    });
    socket.once('unexpected-response', (request: ClientRequest, response: IncomingMessage) => {
      ledger.recordResponse(machine.name, id, response.statusCode ?? 0);
      resolve({ rejection: headOf(response) });
      response.resume();
      response.once('close', () => request.destroy());
    });
  });
}

function headOf({ statusCode, headers }: IncomingMessage): ResponseHead {
  const fields = Object.entries(headers).map(([name, value]) => [name, String(value)] as const);
  return { status: statusCode ?? 0, fields: new Map(fields) };
}

function open(socket: WebSocket): OpenWebSocket {
  const messages: Message[] = [];
  let closeCode: number | undefined;
  let wake: () => void = () => undefined;
  socket.on('message', (bytes: Buffer, isBinary) => {
    messages.push({ bytes, isBinary });
    wake();
  });
  socket.on('close', (code) => {
    closeCode = code;
    wake();
  });
  socket.on('error', () => undefined);

  async function until(isThere: () => boolean, what: string): Promise<void> {
    if (isThere()) return;
    const woken = Promise.withResolvers<undefined>();
    wake = () => {
      if (isThere()) woken.resolve(undefined);
    };
    const cancel = systemClock.after(IDLE_TIMEOUT_MS, () =>
      woken.reject(wrong(`waited ${IDLE_TIMEOUT_MS} ms for ${what}`)),
    );
    await woken.promise.finally(cancel);
  }

  return {
    send: ({ bytes, isBinary }) => socket.send(bytes, { binary: isBinary }),
    next: async () => {
      await until(() => messages.length > 0 || closeCode !== undefined, 'a message');
      const message = messages.shift();
      if (message) return message;
      throw lost(`the WebSocket was closed with ${closeCode ?? 'no code'}`);
    },
    close: () => socket.close(1000),
    terminate: () => socket.terminate(),
    closed: async () => {
      await until(() => closeCode !== undefined, 'the close');
      return closeCode ?? 0;
    },
  };
}

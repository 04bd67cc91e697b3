/** A client on a plain socket: it sends exactly the bytes of the test. */
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import type { TestContext } from 'node:test';

export interface RawClient {
  readonly socket: Socket;
  send(text: string): void;
  /** Everything received so far, as latin-1. */
  received(): string;
  /**
   * Resolves with everything received once `isThere` returns true; rejects if the server ends
   * first.
   */
  until(isThere: (received: string) => boolean): Promise<string>;
  /** Resolves with everything received once the server has ended the connection. */
  untilClosed(): Promise<string>;
}

/** `allowHalfOpen`: the client's own side stays open when the server has ended its. */
export async function openRawClient(
  port: number,
  host = '127.0.0.1',
  allowHalfOpen = false,
): Promise<RawClient> {
  const socket = connect({ port, host, allowHalfOpen, noDelay: true });
  await once(socket, 'connect');
  let text = '';
  let isClosed = false;
  const waiting = new Set<() => void>();
  const wake = (): void => waiting.forEach((check) => check());
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
    wake();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    isClosed = true;
    wake();
  });

  function until(isThere: (received: string) => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!isThere(text) && !isClosed) return;
        waiting.delete(check);
        if (isThere(text)) resolve(text);
        else reject(new Error(`the connection ended after: ${JSON.stringify(text)}`));
      };
      waiting.add(check);
      check();
    });
  }

  return {
    socket,
    send: (sent) => void socket.write(sent, 'latin1'),
    received: () => text,
    until,
    untilClosed: () => until(() => isClosed),
  };
}

/** A client that is closed at the end of the test. */
export async function openClient(t: TestContext, port: number): Promise<RawClient> {
  const client = await openRawClient(port);
  t.after(() => client.socket.destroy());
  return client;
}

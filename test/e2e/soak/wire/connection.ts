/**
 * A client's connection on a plain socket. It reads no more from the socket than is requested, so
 * that a slow reader is one for the kernel, too.
 */
import { connect, type Socket } from 'node:net';
import { systemClock } from '../../../../src/clock.ts';
import { lost, wrong } from '../failure.ts';
import type { Machine } from '../machine.ts';

/** A connection without traffic for this time counts as dead, in ms. */
const IDLE_TIMEOUT_MS = 30_000;
const MAX_HEAD_BYTES = 65_536;
const HEAD_END = '\r\n\r\n';
const EMPTY = Buffer.alloc(0);

export class Connection {
  readonly machine: Machine;
  readonly #socket: Socket;
  #bytes: Buffer = EMPTY;
  #isEnded = false;
  #error: NodeJS.ErrnoException | undefined;
  /** Reader and writer may both wait for an event. */
  readonly #waiting = new Set<() => void>();

  static async open(machine: Machine): Promise<Connection> {
    const connection = new Connection(machine);
    while (connection.#socket.connecting) await connection.#untilEvent('connect');
    connection.#failIfClosed();
    return connection;
  }

  private constructor(machine: Machine) {
    this.machine = machine;
    this.#socket = connect({ port: machine.port, host: '127.0.0.1', noDelay: true });
    this.#socket.on('error', (error) => (this.#error = error));
    this.#socket.on('end', () => (this.#isEnded = true));
    for (const event of ['connect', 'readable', 'drain', 'end', 'close']) {
      this.#socket.on(event, () => this.#waiting.forEach((wake) => wake()));
    }
  }

  /** It is open both ways. */
  get isOpen(): boolean {
    return this.#socket.readable && this.#socket.writable && !this.#isEnded;
  }

  /** Unread data has arrived. */
  get hasUnread(): boolean {
    return this.#bytes.length > 0 || this.#socket.readableLength > 0;
  }

  /** Resolves once there is room for more. */
  async write(bytes: Buffer | string): Promise<void> {
    this.#failIfClosed();
    const hasRoom = this.#socket.write(bytes);
    if (hasRoom) return;
    while (this.#socket.writableNeedDrain) {
      await this.#untilEvent('room to write');
      this.#failIfClosed();
    }
  }

  /** The text before the empty line; undefined if the connection ends before its first byte. */
  async readHead(): Promise<string | undefined> {
    let end = this.#bytes.indexOf(HEAD_END);
    while (end < 0) {
      if (this.#bytes.length > MAX_HEAD_BYTES) throw wrong('a head without an end');
      if (!(await this.#fill())) {
        if (this.#bytes.length === 0) return undefined;
        throw lost('the connection ended within a head');
      }
      end = this.#bytes.indexOf(HEAD_END);
    }
    return this.#take(end + HEAD_END.length).toString('latin1', 0, end);
  }

  /** Without its line end. */
  async readLine(): Promise<string> {
    let end = this.#bytes.indexOf('\r\n');
    while (end < 0) {
      if (this.#bytes.length > MAX_HEAD_BYTES) throw wrong('a line without an end');
      if (!(await this.#fill())) throw lost('the connection ended within a chunked body');
      end = this.#bytes.indexOf('\r\n');
    }
    return this.#take(end + 2).toString('latin1', 0, end);
  }

  /** Some bytes, `max` at most; undefined after the last one. */
  async read(max: number): Promise<Buffer | undefined> {
    if (this.#bytes.length === 0 && !(await this.#fill())) return undefined;
    return this.#take(Math.min(max, this.#bytes.length));
  }

  /** Resolves once the other side has closed, in any way; rejects if it does not in time. */
  async untilClosed(timeoutMs: number): Promise<Buffer> {
    const chunks = [this.#bytes];
    this.#bytes = EMPTY;
    const deadline = systemClock.monotonicMs() + timeoutMs;
    while (!this.#socket.closed && !this.#isEnded) {
      const leftMs = deadline - systemClock.monotonicMs();
      if (leftMs <= 0) throw wrong(`the connection is still open after ${timeoutMs} ms`);
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk) chunks.push(chunk);
      else await this.#untilEvent('the end', leftMs).catch(() => undefined);
    }
    return Buffer.concat(chunks);
  }

  /** FIN: there is nothing more to send. */
  end(): void {
    this.#socket.end();
  }

  /** RST. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** FIN, or RST if there was unread data. */
  destroy(): void {
    this.#socket.destroy();
  }

  #take(length: number): Buffer {
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken;
  }

  /** Whether there is more. */
  async #fill(): Promise<boolean> {
    for (;;) {
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk) {
        this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
        return true;
      }
      if (this.#isEnded) return false;
      this.#failIfClosed();
      await this.#untilEvent('a response');
    }
  }

  #failIfClosed(): void {
    if (this.#error) throw lost(`the connection broke: ${this.#error.code ?? this.#error.message}`);
    if (this.#socket.destroyed) throw lost('the connection was closed');
  }

  async #untilEvent(what: string, timeoutMs = IDLE_TIMEOUT_MS): Promise<void> {
    const woken = Promise.withResolvers<undefined>();
    const wake = (): void => woken.resolve(undefined);
    this.#waiting.add(wake);
    const cancel = systemClock.after(timeoutMs, () =>
      woken.reject(wrong(`waited ${timeoutMs} ms for ${what}`)),
    );
    try {
      await woken.promise;
    } finally {
      cancel();
      this.#waiting.delete(wake);
    }
  }
}

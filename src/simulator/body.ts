/** The body of a request at the edge: streamed to a Machine, and buffered for a replay. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { headerPairs } from './edge-headers.ts';

type Completeness = 'whole' | 'too-large' | 'aborted';

/**
 * Streams a request's body to one Machine at a time, with backpressure, and buffers it so that another
 * Machine can receive the whole body again. Beyond `maxKeptBytes` it only streams.
 *
 * coming --(end)--> ended; coming --(the client disconnects)--> aborted
 */
export class ReplayableBody {
  readonly #incoming: IncomingMessage;
  readonly #maxKeptBytes: number;
  #progress: 'coming' | 'ended' | 'aborted' = 'coming';
  #kept: Buffer[] | undefined = [];
  #keptBytes = 0;
  #target: ClientRequest | undefined;
  #waiting: ((completeness: Completeness) => void) | undefined;

  constructor(incoming: IncomingMessage, maxKeptBytes: number) {
    this.#incoming = incoming;
    this.#maxKeptBytes = maxKeptBytes;
    if (Number(incoming.headers['content-length'] ?? 0) > maxKeptBytes) this.#kept = undefined;
    incoming.pause();
    incoming.on('data', (chunk: Buffer) => this.#receive(chunk));
    incoming.on('end', () => this.#finish('ended'));
    incoming.on('close', () => this.#finish('aborted'));
    // An aborted request emits 'error' too; 'close' has reported it already.
    incoming.on('error', () => undefined);
  }

  /** Whether the whole body so far is still buffered. */
  get canBeSentAgain(): boolean {
    return this.#kept !== undefined;
  }

  /**
   * Sends the buffered part, then streams the rest, and ends the request with the body. Once the target
   * is closed, the rest is discarded, so that the client can read its response.
   */
  sendTo(target: ClientRequest): void {
    // An empty write sends the head at once, and as latin-1, which `flushHeaders` would not.
    target.write('', 'latin1');
    for (const chunk of this.#kept ?? []) target.write(chunk);
    if (this.#progress === 'ended') this.#end(target);
    if (this.#progress === 'aborted') target.destroy();
    if (this.#progress !== 'coming') return;
    this.#target = target;
    target.on('drain', () => this.#incoming.resume());
    target.once('close', () => {
      if (this.#target === target) this.discardRest();
    });
    this.#incoming.resume();
  }

  /** The response is sent: reads and discards the rest of the body, so that the client can read the response. */
  discardRest(): void {
    this.#target = undefined;
    this.#incoming.resume();
  }

  /** Stops sending to this target, if it is the current one, and pauses until there is another. */
  detach(target: ClientRequest): void {
    if (this.#target !== target) return;
    this.#target = undefined;
    this.#incoming.pause();
  }

  /** Waits until the whole body is buffered, or is too large for that. Sends nothing. */
  whole(): Promise<Completeness> {
    this.#target = undefined;
    if (this.#kept === undefined) return Promise.resolve('too-large');
    if (this.#progress === 'ended') return Promise.resolve('whole');
    if (this.#progress === 'aborted') return Promise.resolve('aborted');
    return new Promise((resolve) => {
      this.#waiting = resolve;
      this.#incoming.resume();
    });
  }

  #receive(chunk: Buffer): void {
    this.#keep(chunk);
    if (this.#target?.write(chunk) === false) this.#incoming.pause();
  }

  #keep(chunk: Buffer): void {
    if (this.#kept === undefined) return;
    this.#keptBytes += chunk.length;
    if (this.#keptBytes <= this.#maxKeptBytes) {
      this.#kept.push(chunk);
      return;
    }
    this.#kept = undefined;
    this.#resolve('too-large');
  }

  #finish(progress: 'ended' | 'aborted'): void {
    if (this.#progress !== 'coming') return;
    this.#progress = progress;
    const target = this.#target;
    this.#target = undefined;
    if (progress === 'aborted') target?.destroy();
    else if (target) this.#end(target);
    this.#resolve(progress === 'ended' ? 'whole' : 'aborted');
  }

  #end(target: ClientRequest): void {
    if (this.#incoming.rawTrailers.length > 0)
      target.addTrailers(headerPairs(this.#incoming.rawTrailers));
    target.end();
  }

  #resolve(completeness: Completeness): void {
    this.#waiting?.(completeness);
    this.#waiting = undefined;
  }
}

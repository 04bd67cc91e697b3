/** The body of a request at the edge: streamed to a Machine, and kept for the case of a replay. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { headerPairs } from './edge-headers.ts';

export type Completeness = 'whole' | 'too-large' | 'aborted';

/**
 * Sends a request's body to one Machine at a time, as it comes and with backpressure, and keeps what
 * has come so that another Machine can be sent the whole again. What grows beyond `maxKeptBytes` is
 * passed on but no longer kept.
 *
 * coming --(end)--> ended; coming --(the client leaves)--> aborted
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
    // An incoming request that breaks off emits 'error' too; 'close' has said it already.
    incoming.on('error', () => undefined);
  }

  /** Whether all that has come is still at hand. */
  get canBeSentAgain(): boolean {
    return this.#kept !== undefined;
  }

  /**
   * Sends what has come, then what comes, and ends the request with the body. Once the target is
   * closed, what still comes is thrown away, so that the client gets to read its answer.
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

  /** The request is answered: what the client still sends is read, so that it gets to the answer. */
  discardRest(): void {
    this.#target = undefined;
    this.#incoming.resume();
  }

  /** Stops sending to this target, if it is the one, and reading, until another is given. */
  detach(target: ClientRequest): void {
    if (this.#target !== target) return;
    this.#target = undefined;
    this.#incoming.pause();
  }

  /** Waits until all of the body has come, or it is clear that it cannot be kept. Sends nothing. */
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
    this.#tell('too-large');
  }

  #finish(progress: 'ended' | 'aborted'): void {
    if (this.#progress !== 'coming') return;
    this.#progress = progress;
    const target = this.#target;
    this.#target = undefined;
    if (progress === 'aborted') target?.destroy();
    else if (target) this.#end(target);
    this.#tell(progress === 'ended' ? 'whole' : 'aborted');
  }

  #end(target: ClientRequest): void {
    if (this.#incoming.rawTrailers.length > 0)
      target.addTrailers(headerPairs(this.#incoming.rawTrailers));
    target.end();
  }

  #tell(completeness: Completeness): void {
    this.#waiting?.(completeness);
    this.#waiting = undefined;
  }
}

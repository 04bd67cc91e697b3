/**
 * Where requests for the app wait until it accepts its first connection. Each reserves memory for the head
 * and what is buffered of its body, so that the budget bounds how many there are.
 *
 *   open --close--> holding --open--> open
 *                      +----refuse--> refusing
 */
import type { BufferBudget } from '../http/buffers.ts';

export interface HeldRequest {
  readonly hasBody: boolean;
  /** The app may be there now. */
  onGateOpen(): void;
  onGateRefused(): void;
}

interface StartGateOptions {
  readonly budget: Pick<BufferBudget, 'reserve' | 'giveBack'>;
  /** What a head takes at most, and what is buffered of a body, in bytes. */
  readonly headBytes: number;
  readonly bodyBytes: number;
}

const MAX_HELD = 1_000;

export class StartGate {
  readonly #options: StartGateOptions;
  readonly #held = new Set<HeldRequest>();
  #state: 'open' | 'holding' | 'refusing' = 'open';

  constructor(options: StartGateOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  close(): void {
    this.#state = 'holding';
  }

  open(): void {
    if (this.#state === 'holding') this.#end('open');
  }

  /** The sidecar ends before the app was there. */
  refuse(): void {
    if (this.#state === 'holding') this.#end('refusing');
  }

  /** False: too many wait already, or none is let through any more. */
  hold(request: HeldRequest): boolean {
    if (this.#state !== 'holding' || this.#held.size >= MAX_HELD) return false;
    if (!this.#options.budget.reserve(this.#bytesOf(request))) return false;
    this.#held.add(request);
    return true;
  }

  /** The request waits no longer. */
  release(request: HeldRequest): void {
    if (this.#held.delete(request)) this.#options.budget.giveBack(this.#bytesOf(request));
  }

  #end(state: 'open' | 'refusing'): void {
    this.#state = state;
    for (const request of [...this.#held]) {
      this.release(request);
      if (state === 'open') request.onGateOpen();
      else request.onGateRefused();
    }
  }

  #bytesOf({ hasBody }: HeldRequest): number {
    const { headBytes, bodyBytes } = this.#options;
    return hasBody ? headBytes + bodyBytes : headBytes;
  }
}

/**
 * Sends the heads of answers whose bodies are late. Most bodies come with their head and leave with
 * it in one write, so a head waits until the event loop has read what there is, and no longer; one
 * look a turn serves all.
 */
export interface LateHead {
  /** Sends the head, if nothing has been sent of the answer yet. */
  flushHead(): void;
}

export class HeadFlusher {
  #waiting: LateHead[] = [];
  readonly #flush = (): void => {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const head of waiting) head.flushHead();
  };

  /** `flushHead` is called before the event loop waits again. */
  add(head: LateHead): void {
    if (this.#waiting.length === 0) setImmediate(this.#flush);
    this.#waiting.push(head);
  }
}

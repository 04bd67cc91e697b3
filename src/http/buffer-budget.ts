/**
 * What all connections hold of bytes that are on their way: those that nobody has taken yet, and those
 * that a slow peer has not read. Over the total, new requests are refused (503), so that slow peers
 * can't use up the memory.
 */
export class BufferBudget {
  readonly #limitBytes: number;
  #heldBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get isExhausted(): boolean {
    return this.#heldBytes > this.#limitBytes;
  }

  /** Opens an account for one connection. */
  open(): BufferAccount {
    let held = 0;
    return {
      set: (bytes) => {
        if (bytes === held) return;
        this.#heldBytes += bytes - held;
        held = bytes;
      },
    };
  }
}

export interface BufferAccount {
  /** What the connection holds now, in bytes. */
  set(bytes: number): void;
}

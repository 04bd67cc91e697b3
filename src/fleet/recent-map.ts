/** A map of bounded size whose entries expire after a fixed time. When it is full, the oldest entry is dropped. */
import type { Clock } from '../clock.ts';

interface RecentMapOptions {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly ttlMs: number;
  readonly maxEntries: number;
}

export class RecentMap<Key, Value> {
  readonly #options: RecentMapOptions;
  /** The oldest first: all entries have the same lifetime, so it also expires first. */
  readonly #entries = new Map<Key, { readonly value: Value; readonly untilMs: number }>();

  constructor(options: RecentMapOptions) {
    this.#options = options;
  }

  /** Replaces an entry of the same key and restarts its lifetime. */
  set(key: Key, value: Value): void {
    const { clock, ttlMs, maxEntries } = this.#options;
    this.#entries.delete(key);
    this.#entries.set(key, { value, untilMs: clock.monotonicMs() + ttlMs });
    this.#dropBeyond(maxEntries);
  }

  get(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    return entry && this.#isCurrent(entry.untilMs) ? entry.value : undefined;
  }

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  delete(key: Key): void {
    this.#entries.delete(key);
  }

  /** The oldest first. */
  *entries(): Iterable<readonly [Key, Value]> {
    this.#dropBeyond(this.#options.maxEntries);
    for (const [key, { value }] of this.#entries) yield [key, value];
  }

  #dropBeyond(maxEntries: number): void {
    for (const [key, { untilMs }] of this.#entries) {
      if (this.#entries.size <= maxEntries && this.#isCurrent(untilMs)) return;
      this.#entries.delete(key);
    }
  }

  #isCurrent(untilMs: number): boolean {
    return untilMs > this.#options.clock.monotonicMs();
  }
}

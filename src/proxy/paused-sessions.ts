/**
 * The life of the sessions while this Machine is suspended: it is paused, as that of the app's memory is.
 *
 * Before, every binding is extended by {@link PAUSE_MS}, here and (by an announcement) on the other Machines, so
 * that none expires meanwhile. Afterwards what was added is taken off again, except the time of the suspend. A
 * clock that is behind after the suspend must have caught up by then; until then new bindings live that much
 * longer too, so that none is already over when the clock jumps.
 */
import type { Clock } from '../clock.ts';
import type { Binding, MachineId, SessionKey } from '../session.ts';
import type { SessionStore } from '../store/store.ts';

/** The longest suspend that sessions survive, in ms: 30 days. A time to live that is longer counts instead. */
const PAUSE_MS = 30 * 24 * 3_600_000;
/** Bindings that are written at once. */
const CHUNK = 256;

interface PausedSessionsParts {
  readonly self: MachineId;
  readonly store: Pick<
    SessionStore,
    'entries' | 'touch' | 'expireWithin' | 'delete' | 'cleanup' | 'isShared'
  >;
  readonly clock: Pick<Clock, 'now'>;
  readonly ttlMs: number;
  /** 0: no bound. */
  readonly maxAgeMs: number;
  /** Whether that Machine runs: it then keeps the time of its sessions itself. */
  readonly isRunning: (machine: MachineId) => boolean;
}

/** Receives bindings of this Machine with their new ends. False stops the pause. */
type OnBindings = (bindings: readonly Binding[]) => Promise<boolean>;

export class PausedSessions {
  readonly #parts: PausedSessionsParts;
  readonly #pauseMs: number;
  #isPaused = false;

  constructor(parts: PausedSessionsParts) {
    this.#parts = parts;
    // What has more left than the time to live was extended, for certain.
    this.#pauseMs = Math.max(PAUSE_MS, parts.ttlMs);
  }

  /** The time to live of a binding that is used now. HOT PATH. */
  get ttlMs(): number {
    const { ttlMs } = this.#parts;
    return this.#isPaused ? ttlMs + this.#pauseMs : ttlMs;
  }

  /** Resolves to whether all are paused and `onOwn` agreed to each. Rejects if the store fails. */
  async pause(onOwn: OnBindings): Promise<boolean> {
    this.#isPaused = true;
    for await (const chunk of chunksOf(this.#bindings())) {
      const own = await Promise.all(chunk.map((binding) => this.#extend(binding)));
      if (!(await onOwn(own.filter(isBinding)))) return false;
    }
    return true;
  }

  /** Resolves to the binding with its new end, if it is this Machine's. */
  async #extend(binding: Binding): Promise<Binding | undefined> {
    const { self, store, clock } = this.#parts;
    const { key, machine } = binding;
    if (machine !== self) {
      // Its owner may sleep before this Machine wakes, and can't announce that here.
      await store.touch(key, this.#pauseMs);
      return undefined;
    }
    const expiresAt = this.#isExtended(binding)
      ? binding.expiresAt
      : binding.expiresAt + this.#pauseMs;
    await store.touch(key, expiresAt - clock.now());
    return { ...binding, expiresAt };
  }

  /**
   * Gives each session the life that it had left, and removes the expired ones. `sleptMs`: the time of the suspend;
   * `Infinity`: unknown, as the process is another one. Rejects if the store fails.
   */
  async resume(sleptMs: number, onOwn: OnBindings): Promise<void> {
    this.#isPaused = false;
    for await (const chunk of chunksOf(this.#bindings())) {
      const extended = chunk.filter((binding) => this.#isExtended(binding));
      const own = await Promise.all(extended.map((binding) => this.#shorten(binding, sleptMs)));
      await onOwn(own.filter(isBinding));
    }
    await this.#parts.store.cleanup();
  }

  /** The sessions of this Machine as they are. */
  async eachOwn(onOwn: OnBindings): Promise<void> {
    const { self } = this.#parts;
    for await (const chunk of chunksOf(this.#bindings())) {
      const own = chunk.filter(({ machine }) => machine === self);
      if (!(await onOwn(own))) return;
    }
  }

  async #shorten(binding: Binding, sleptMs: number): Promise<Binding | undefined> {
    const { self, store, clock, ttlMs, isRunning } = this.#parts;
    const { key, machine } = binding;
    if (machine !== self) {
      if (isRunning(machine)) await store.expireWithin(key, ttlMs);
      return undefined;
    }
    const leftMs = Math.min(ttlMs, this.#leftMs(binding, sleptMs));
    if (leftMs <= 0) {
      await store.delete(key, self);
      return undefined;
    }
    await store.expireWithin(key, leftMs);
    return { ...binding, expiresAt: clock.now() + leftMs };
  }

  #leftMs({ createdAt, expiresAt }: Binding, sleptMs: number): number {
    const { clock, maxAgeMs } = this.#parts;
    // The maximum age has cut off what was added, and how much is unknown.
    if (maxAgeMs > 0 && expiresAt >= createdAt + maxAgeMs) return expiresAt - clock.now();
    return expiresAt - this.#pauseMs + sleptMs - clock.now();
  }

  #isExtended({ expiresAt }: Binding): boolean {
    return expiresAt - this.#parts.clock.now() > this.#parts.ttlMs;
  }

  /** Of a shared store only our own: the other Machines pause theirs. */
  async *#bindings(): AsyncGenerator<Binding> {
    const { self, store } = this.#parts;
    for await (const binding of store.entries())
      if (!store.isShared || binding.machine === self) yield binding;
  }
}

function isBinding(binding: Binding | undefined): binding is Binding {
  return binding !== undefined;
}

/** A binding that the store lists twice, because it was written meanwhile, comes once. */
async function* chunksOf(bindings: AsyncIterable<Binding>): AsyncGenerator<Binding[]> {
  const seen = new Set<SessionKey>();
  let chunk: Binding[] = [];
  for await (const binding of bindings) {
    if (seen.has(binding.key)) continue;
    seen.add(binding.key);
    chunk.push(binding);
    if (chunk.length < CHUNK) continue;
    yield chunk;
    chunk = [];
  }
  if (chunk.length > 0) yield chunk;
}

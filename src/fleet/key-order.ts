/** Does what concerns one session key one after the other, and what concerns others meanwhile. */
import type { SessionKey } from '../session.ts';

export interface KeyOrder {
  /** Begins at once where nothing of the key is under way. `work` must not reject. */
  run<Result>(key: SessionKey, work: () => Promise<Result>): Promise<Result>;
  /** Waits for what is under way. */
  ended(): Promise<void>;
}

export function createKeyOrder(): KeyOrder {
  /** The last work of each key. */
  const last = new Map<SessionKey, Promise<unknown>>();

  return {
    run: (key, work) => {
      const before = last.get(key);
      const running = before ? before.then(work) : work();
      last.set(key, running);
      void running.then(() => {
        if (last.get(key) === running) last.delete(key);
      });
      return running;
    },
    ended: async () => {
      while (last.size > 0) await Promise.all(last.values());
    },
  };
}

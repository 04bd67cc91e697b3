/** The writes that are still on their way, by key and in the order of their calls, for reads to see. */
import type { Binding, SessionKey } from '../../session.ts';
import { applyWrite } from '../rules.ts';
import type { Write } from '../rules.ts';

export interface PendingWrites {
  has(key: SessionKey): boolean;
  add(write: Write): void;
  /** The oldest one of its key is written, or has failed. */
  settle(write: Write): void;
  /** What will be bound once they are written, if `found` is what is in the file. */
  apply(key: SessionKey, found: Binding | undefined): Binding | undefined;
}

export function createPendingWrites(maxAgeMs: number): PendingWrites {
  const byKey = new Map<SessionKey, Write[]>();
  return {
    has: (key) => byKey.has(key),
    add: (write) => {
      const writes = byKey.get(write.key);
      if (writes) writes.push(write);
      else byKey.set(write.key, [write]);
    },
    settle: ({ key }) => {
      const writes = byKey.get(key);
      if (writes && writes.length > 1) writes.shift();
      else byKey.delete(key);
    },
    apply: (key, found) =>
      (byKey.get(key) ?? []).reduce(
        (binding, write) => applyWrite(write, binding, maxAgeMs).after,
        found,
      ),
  };
}

/** A {@link Write} performed by a store, through the method of its port. */
import type { Outcome, Write } from '../rules.ts';
import type { SessionStore } from '../store.ts';

/**
 * Rejects with the store's error. Of what slides or removes a binding the port tells no more than
 * whether it was there, so `after` is undefined then.
 */
export async function performWrite(store: SessionStore, write: Write): Promise<Outcome> {
  switch (write.kind) {
    case 'claim': {
      const after = await store.claim(write);
      return { after, hasTakenEffect: after.machine === write.machine };
    }
    case 'upsert': {
      const { createdAt, ...stated } = write;
      const after = await store.upsert(createdAt === undefined ? stated : { ...stated, createdAt });
      return { after, hasTakenEffect: after.machine === write.machine };
    }
    case 'rebind': {
      const { key, from, to, origin, ttlMs } = write;
      const after = await store.rebind(key, from, to, origin, ttlMs);
      return { after, hasTakenEffect: after?.machine === to };
    }
    case 'touch':
      return { after: undefined, hasTakenEffect: await store.touch(write.key, write.ttlMs) };
    case 'expireWithin':
      return { after: undefined, hasTakenEffect: await store.expireWithin(write.key, write.ttlMs) };
    case 'delete':
      return { after: undefined, hasTakenEffect: await store.delete(write.key, write.ifMachine) };
  }
}

/** How many sessions live on this Machine, asked again and again while an operator drains it. */
import type { MachineId } from '../session.ts';
import type { SessionStore } from '../store/store.ts';

/**
 * Counts the sessions of this Machine by walking through the store; who asks meanwhile waits for the
 * walk under way. Undefined where the store can't say. Never rejects.
 */
export function createOwnSessionCount(
  store: Pick<SessionStore, 'entries'>,
  self: MachineId,
): () => Promise<number | undefined> {
  let counting: Promise<number | undefined> | undefined;

  const count = async (): Promise<number | undefined> => {
    let own = 0;
    try {
      for await (const { machine } of store.entries()) if (machine === self) own += 1;
      return own;
    } catch {
      // That the store fails is told where its operations are watched.
      return undefined;
    }
  };

  return () => (counting ??= count().finally(() => (counting = undefined)));
}

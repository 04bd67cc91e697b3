/** Some of the sessions of a store. */
import type { Binding, MachineId } from '../session.ts';

export interface Selection {
  readonly owner?: MachineId | undefined;
  /** No more than so many. */
  readonly limit?: number | undefined;
}

/** `signal` ends it, also where a walk finds nothing to hand on. */
export async function* selectSessions(
  bindings: AsyncIterable<Binding>,
  { owner, limit = Infinity }: Selection,
  signal?: AbortSignal,
): AsyncGenerator<Binding> {
  let left = limit;
  if (left <= 0) return;
  for await (const binding of bindings) {
    signal?.throwIfAborted();
    if (owner !== undefined && binding.machine !== owner) continue;
    yield binding;
    left -= 1;
    if (left <= 0) return;
  }
}

/** Selects sessions of a store, by owner and number. */
import type { Binding, MachineId } from '../session.ts';

export interface Selection {
  readonly owner?: MachineId | undefined;
  /** The most sessions to select. */
  readonly limit?: number | undefined;
}

/** `signal` also ends a walk that finds no matching session. */
export async function* selectSessions(
  bindings: AsyncIterable<Binding>,
  { owner, limit = Infinity }: Selection,
  signal?: AbortSignal,
): AsyncGenerator<Binding> {
  let remaining = limit;
  if (remaining <= 0) return;
  for await (const binding of bindings) {
    signal?.throwIfAborted();
    if (owner !== undefined && binding.machine !== owner) continue;
    yield binding;
    remaining -= 1;
    if (remaining <= 0) return;
  }
}

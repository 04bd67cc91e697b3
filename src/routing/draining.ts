/**
 * Whether this Machine takes new sessions. The operator and signals change it.
 *
 *   taking <---undrain--- drained
 *      |   ----drain---->    |
 *      |                     |
 *      +-------signal--------+-----> ending: for good
 */
export type DrainState = 'taking' | 'drained' | 'ending';

export interface Draining {
  state(): DrainState;
  /** On the operator's request: no new sessions here. Returns whether that changed the state. */
  drain(): boolean;
  /** Undoes {@link drain}, but not a signal. Returns whether that changed the state. */
  undrain(): boolean;
  /** On a signal: this Machine is about to stop. */
  end(): void;
}

export function createDraining(): Draining {
  let state: DrainState = 'taking';

  const change = (from: DrainState, to: DrainState): boolean => {
    if (state !== from) return false;
    state = to;
    return true;
  };

  return {
    state: () => state,
    drain: () => change('taking', 'drained'),
    undrain: () => change('drained', 'taking'),
    end: () => void (state = 'ending'),
  };
}

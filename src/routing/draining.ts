/**
 * Whether this Machine takes new sessions, by the word of its operator and of signals.
 *
 *   taking <---undrain--- drained
 *      |   ----drain---->    |
 *      |                     |
 *      +-------signal--------+-----> ending: for good
 */
export type DrainState = 'taking' | 'drained' | 'ending';

export interface Draining {
  state(): DrainState;
  /** The operator wants no new sessions here. Returns whether that changed anything. */
  drain(): boolean;
  /** The operator takes that back; not what a signal has begun. Returns whether that changed anything. */
  undrain(): boolean;
  /** A signal: soon nobody will be here. */
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

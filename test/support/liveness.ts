/** The liveness of other Machines, for tests that start without any. */
import type { Clock } from '../../src/clock.ts';
import { Liveness, type LivenessOptions } from '../../src/fleet/liveness.ts';

export function createTestLiveness(clock: Clock, options: Partial<LivenessOptions> = {}): Liveness {
  return new Liveness({ clock, ownerStopped: 'wake', goneAfterMs: 0, ...options });
}

/**
 * `Via` (RFC 9110 §7.6.3): says that a request has passed this sidecar, and finds loops, which a wrong
 * `UPSTREAM_URL` makes.
 */
import type { MachineId } from '../affinity/session.ts';

export interface Via {
  /** The field line that is added to a request, with its line end. */
  readonly line: string;
  /** Whether a request has passed this sidecar more often than any sound set-up lets it. */
  isLoop(values: readonly string[]): boolean;
}

/** An app that is a proxy may send a request through its own public address, and hand `Via` on. */
const MAX_PASSES = 3;

export function createVia(machine: MachineId): Via {
  const received = `fly-affinity-${machine}`;
  const pass = new RegExp(`(?:^|[\\s,])${received}(?=$|[\\s,])`, 'g');
  const countIn = (value: string): number => value.match(pass)?.length ?? 0;
  return {
    line: `Via: 1.1 ${received}\r\n`,
    isLoop: (values) => {
      if (values.length === 0) return false;
      return values.reduce((count, value) => count + countIn(value), 0) >= MAX_PASSES;
    },
  };
}

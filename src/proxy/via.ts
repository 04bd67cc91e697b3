/**
 * `Via` (RFC 9110 §7.6.3): says that a request has passed this sidecar, and finds loops, which a wrong
 * `UPSTREAM_URL` makes.
 */
import type { MachineId } from '../session.ts';

export interface Via {
  /** The field line that is added to a request of that minor version, with its line end. */
  lineFor(minorVersion: 0 | 1): string;
  /** Whether a request has passed this sidecar more often than any sound set-up lets it. */
  isLoop(values: readonly string[]): boolean;
}

/** An app that is a proxy may send a request through its own public address, and hand `Via` on. */
const MAX_PASSES = 3;

export function createVia(machine: MachineId): Via {
  // The comment tells this sidecar from that of another Machine.
  const own = `fly-affinity (${machine})`;
  const lines = [`Via: 1.0 ${own}\r\n`, `Via: 1.1 ${own}\r\n`] as const;
  const countIn = (value: string): number => value.split(own).length - 1;
  return {
    lineFor: (minorVersion) => lines[minorVersion],
    isLoop: (values) => {
      if (values.length === 0) return false;
      return values.reduce((count, value) => count + countIn(value), 0) >= MAX_PASSES;
    },
  };
}

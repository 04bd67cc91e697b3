/** `fly-affinity sessions` within this process, and its output. */
import assert from 'node:assert/strict';
import type { Binding } from '../../../src/session.ts';
import { execute } from '../../../src/cli/sessions.ts';
import {
  formatEnd,
  formatSession,
  HEAD,
  parseSessionLine,
} from '../../../src/sessions/document.ts';
import { keyOf, machineId } from '../../support/ids.ts';
import { runInProcess, type Ran, type RunOptions } from '../in-process.ts';

export function runSessions(args: readonly string[], options?: RunOptions): Promise<Ran> {
  return runInProcess(execute, args, options);
}

const HOUR_MS = 3_600_000;

/** Of an id; expires in hours, with its own owner. */
export function bindingOf(id: string, changes: Partial<Binding> = {}): Binding {
  const createdAt = Date.now() - HOUR_MS;
  const times = { createdAt, expiresAt: createdAt + 10 * HOUR_MS };
  const key = keyOf(id);
  return { key, machine: machineId('a1'), origin: 'learned', generation: 2, ...times, ...changes };
}

export function bindingsOf(count: number): Binding[] {
  return Array.from({ length: count }, (_, index) => bindingOf(`session-${index}`));
}

export function documentOf(bindings: readonly Binding[]): string {
  return `${[HEAD, ...bindings.map(formatSession), formatEnd(bindings.length)].join('\n')}\n`;
}

/** The sessions of an export. */
export function sessionsIn(text: string): Binding[] {
  const lines = text.split('\n').map((line) => parseSessionLine(line));
  return lines.flatMap((line) => (line.kind === 'session' ? [line.binding] : []));
}

/** For a busy computer. */
const LONGEST_WAY_MS = 10_000;

/**
 * A store received exactly what was sent. A store receives the remaining life of a session, and a
 * shared database its age: its times shift by the duration of the transfer.
 */
export function assertSameSessions(found: readonly Binding[], expected: readonly Binding[]): void {
  const byKey = new Map(found.map((binding) => [binding.key, binding]));
  assert.equal(found.length, expected.length);
  assert.equal(byKey.size, expected.length);
  for (const binding of expected) {
    const { createdAt = NaN, expiresAt = NaN, ...rest } = byKey.get(binding.key) ?? {};
    const times = { createdAt: binding.createdAt, expiresAt: binding.expiresAt };
    assert.deepEqual({ ...rest, ...times }, binding);
    for (const moved of [createdAt - binding.createdAt, expiresAt - binding.expiresAt]) {
      assert.ok(Math.abs(moved) < LONGEST_WAY_MS, `moved by ${moved} ms`);
    }
  }
}

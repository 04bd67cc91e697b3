/** `fly-affinity sessions` within this process, and what it puts out. */
import assert from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import type { Binding } from '../../../src/session.ts';
import { execute } from '../../../src/cli/sessions.ts';
import { systemClock, type Clock } from '../../../src/clock.ts';
import type { Environment } from '../../../src/config/config.ts';
import { formatEnd, formatSession, HEAD, parseSessionLine } from '../../../src/sessions/format.ts';
import { keyOf, machineId } from '../../support/ids.ts';

export interface Ran {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

export interface Given {
  readonly env?: Environment;
  readonly input?: string | Readable;
  readonly clock?: Clock;
}

export async function runSessions(
  args: readonly string[],
  { env = {}, input = '', clock = systemClock }: Given = {},
): Promise<Ran> {
  const [stdout, stderr] = [createSink(), createSink()];
  const code = await execute(args, {
    env,
    clock,
    random: Math.random,
    events: process,
    endBy: () => undefined,
    stdin: typeof input === 'string' ? Readable.from([Buffer.from(input)]) : input,
    stdout,
    stderr,
  });
  return { code, output: stdout.text(), errors: stderr.text() };
}

function createSink(): Writable & { text(): string } {
  let text = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  return Object.assign(sink, { text: () => text });
}

const HOUR_MS = 3_600_000;

/** Of an id; alive for hours, of an owner of its own. */
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

/** What an export holds. */
export function sessionsIn(text: string): Binding[] {
  const lines = text.split('\n').map((line) => parseSessionLine(line));
  return lines.flatMap((line) => (line.kind === 'session' ? [line.binding] : []));
}

/** On a computer that has much else to do. */
const LONGEST_WAY_MS = 10_000;

/**
 * What came to a store is what was sent there. A store is told how long a session has still to live,
 * and a database that is shared how old it is: its times move by the way there and back.
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

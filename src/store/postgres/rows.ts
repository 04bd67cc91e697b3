/** Converts rows of Postgres to bindings and outcomes, in this process's clock. */
import { parseMachineId, parseSessionKey } from '../../session.ts';
import type { Binding } from '../../session.ts';
import type { PostgresRow } from './pool.ts';
import { POSTGRES_ORIGINS } from './statements.ts';
import type { Outcome, Write } from '../rules.ts';
import { StoreError } from '../store.ts';

/** The clock of a suspended Machine may be wrong, so only durations are transferred. */
export function toBinding(row: PostgresRow, now: number): Binding {
  const serverNow = Number(row.now);
  const key = parseSessionKey(String(row.key));
  const machine = parseMachineId(String(row.machine));
  if (key === undefined || machine === undefined) {
    throw new StoreError(
      'fatal',
      'a row of fly_affinity_sessions is not a valid binding; check that no other program writes there',
    );
  }
  return {
    key,
    machine,
    // A newer fly-affinity in the fleet may write more origins; the weakest is the safe choice.
    origin: POSTGRES_ORIGINS[Number(row.origin)] ?? 'copied',
    generation: Number(row.generation),
    createdAt: now - (serverNow - Number(row.created_at)),
    expiresAt: now + (Number(row.expires_at) - serverNow),
  };
}

/** `row` is what the write returned. After a delete nothing is known. */
export function toOutcome(write: Write, row: PostgresRow | undefined, now: number): Outcome {
  if (row === undefined || write.kind === 'delete') {
    return { after: undefined, hasTakenEffect: row !== undefined };
  }
  const after = toBinding(row, now);
  return { after, hasTakenEffect: hasTakenEffect(write, after, row.owner) };
}

/** `owner` is the owner before the write, if there was one. */
function hasTakenEffect(
  write: Exclude<Write, { kind: 'delete' }>,
  after: Binding,
  owner: unknown,
): boolean {
  switch (write.kind) {
    case 'claim':
      return after.machine === write.machine;
    case 'upsert':
      return after.machine === write.machine && after.generation === write.generation;
    case 'rebind':
      return owner === write.from;
    case 'touch':
    case 'expireWithin':
      return true;
  }
}

/** A delete without effect does not return the binding that stays. */
export function leftBy(write: Write, outcome: Outcome): Binding | 'absent' | 'unknown' {
  const isRefused = write.kind === 'delete' && !outcome.hasTakenEffect;
  return outcome.after ?? (isRefused ? 'unknown' : 'absent');
}

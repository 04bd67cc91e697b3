/** Well-formed ids for tests, out of short texts. */
import {
  parseMachineId,
  parseSessionId,
  sessionKeyOf,
  type MachineId,
  type SessionKey,
} from '../../src/affinity/session.ts';

export function machineId(text: string): MachineId {
  const id = parseMachineId(text);
  if (id === undefined) throw new Error(`no Machine id: ${text}`);
  return id;
}

export function keyOf(text: string): SessionKey {
  const id = parseSessionId(text);
  if (id === undefined) throw new Error(`no session id: ${text}`);
  return sessionKeyOf(id);
}

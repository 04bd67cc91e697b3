/** Well-formed ids for tests, made of short texts. */
import {
  parseMachineId,
  parseSessionId,
  sessionKeyOf,
  type MachineId,
  type SessionKey,
} from '../../src/session.ts';
import { rendezvousWinner } from '../../src/fleet/rendezvous.ts';

export function machineId(text: string): MachineId {
  const id = parseMachineId(text);
  if (id === undefined) throw new Error(`invalid Machine id: ${text}`);
  return id;
}

/** An id that is placed on that Machine, of these. */
export function idPlacedOn(machine: string, among: readonly string[], stem = 'room'): string {
  for (let i = 0; ; i += 1) {
    const id = `${stem}${i}`;
    if (placeOf(id, among) === machine) return id;
  }
}

/** The Machine, of these, on which that id is placed. */
export function placeOf(id: string, among: readonly string[]): string {
  return rendezvousWinner(keyOf(id), among.map(machineId)) ?? '';
}

export function keyOf(text: string): SessionKey {
  const id = parseSessionId(text);
  if (id === undefined) throw new Error(`invalid session id: ${text}`);
  return sessionKeyOf(id);
}

export function keysOf(prefix: string, count: number): SessionKey[] {
  return Array.from({ length: count }, (_, index) => keyOf(`${prefix}-${index}`));
}

/**
 * Schemas (valibot) of values that come from outside in more than one form: messages, files, requests.
 * The message of each states what is expected, as the end of "NAME must be ...".
 */
import * as v from 'valibot';
import { parseMachineId, parseSessionKey, type MachineId, type SessionKey } from './session.ts';

export const MachineIdSchema = v.custom<MachineId>(
  (value) => typeof value === 'string' && parseMachineId(value) !== undefined,
  'a Machine id, 1 to 32 characters of a-z and 0-9',
);

export const SessionKeySchema = v.custom<SessionKey>(
  (value) => typeof value === 'string' && parseSessionKey(value) !== undefined,
  '32 digits of 0-9 and a-f',
);

export function wholeNumber(min: number, max: number, expected: string) {
  const isWithin = (value: unknown): boolean =>
    Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;
  return v.custom<number>(isWithin, expected);
}

/** What a request about sessions says, checked. All of these throw {@link HttpError}. */
import { HttpError } from './respond.ts';
import { parseMachineId, parseSessionKey, type MachineId, type SessionKey } from '../session.ts';

/** What is there instead of a key is not shown: it may be an id. */
export function parseKey(text: string): SessionKey {
  const key = parseSessionKey(text);
  if (!key)
    throw new HttpError(400, 'the path must end with a session key: 32 digits of 0-9 and a-f');
  return key;
}

/** A misspelt condition must not pass for none. */
export function parametersOf<Name extends string>(
  query: URLSearchParams,
  names: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const given: Partial<Record<Name, string>> = {};
  for (const [name, value] of query) {
    const known = names.find((candidate) => candidate === name);
    if (known === undefined || known in given) {
      const expected = names.length === 0 ? 'no parameters' : `each of ${names.join(', ')} once`;
      throw new HttpError(400, `${expected} can be given here`);
    }
    given[known] = value;
  }
  return given;
}

export function parseOwner(text: string | undefined): MachineId | undefined {
  if (text === undefined) return undefined;
  const machine = parseMachineId(text);
  if (!machine) throw new HttpError(400, 'a Machine id is 1 to 32 characters of a-z and 0-9');
  return machine;
}

export function parseLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new HttpError(400, 'limit must be a whole number');
  return Number(text);
}

export function parseFlag(text: string | undefined): boolean {
  if (text === undefined || text === 'false') return false;
  if (text === 'true') return true;
  throw new HttpError(400, 'dry-run must be true or false');
}

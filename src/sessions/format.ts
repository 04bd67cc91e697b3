/**
 * How sessions look on their way from one store to another: JSON, one value a line.
 *
 * ```
 * {"format":"fly-affinity-sessions","version":1}
 * {"key":<32 hex digits>,"owner":<machine>,"origin":"learned","generation":1,"createdAt":<ms>,"expiresAt":<ms>}
 * {"end":"fly-affinity-sessions","sessions":1}
 * ```
 * Times are ms since the epoch. The last line tells a whole document from one that was cut short, and
 * documents may follow each other. A reader passes over members that it does not know, so one more
 * member is no new version. There are keys in it and never ids, and no sentence about a line quotes
 * it: what stands in the wrong place may be an id, which is a credential.
 */
import {
  parseMachineId,
  parseSessionKey,
  type Binding,
  type BindingOrigin,
  type MachineId,
  type SessionKey,
} from '../session.ts';
import { EVICTION_ORDER } from '../store/store.ts';

export type SessionLine =
  | { readonly kind: 'head' }
  | { readonly kind: 'session'; readonly binding: Binding }
  | { readonly kind: 'end'; readonly sessionCount: number }
  /** What follows can't be read: a head of another format or of a newer version. */
  | { readonly kind: 'foreign'; readonly problem: string }
  | { readonly kind: 'bad'; readonly problem: string };

const FORMAT = 'fly-affinity-sessions';
const VERSION = 1;

/** What the first line has to be. */
export const HEAD = JSON.stringify({ format: FORMAT, version: VERSION });

/** All of these without the line break. */
export function formatSession(binding: Binding): string {
  const { key, machine: owner, origin, generation, createdAt, expiresAt } = binding;
  return JSON.stringify({ key, owner, origin, generation, createdAt, expiresAt });
}

export function formatEnd(sessionCount: number): string {
  return JSON.stringify({ end: FORMAT, sessions: sessionCount });
}

export function parseSessionLine(text: string): SessionLine {
  const members = parseObject(text);
  if (members === undefined) return bad('is no JSON object');
  if ('format' in members) return parseHead(members);
  if ('end' in members) return parseEnd(members);
  return parseSession(members);
}

function parseHead({ format, version }: Members): SessionLine {
  if (format !== FORMAT) {
    return { kind: 'foreign', problem: `is of another format than ${FORMAT}` };
  }
  if (version === VERSION) return { kind: 'head' };
  const problem = isWhole(version, VERSION)
    ? `is of version ${version}, and this fly-affinity reads version ${VERSION}: use a newer one`
    : `must name the version ${VERSION}, got ${described(version)}`;
  return { kind: 'foreign', problem };
}

function parseEnd({ end, sessions }: Members): SessionLine {
  if (end === FORMAT && isWhole(sessions, 0)) return { kind: 'end', sessionCount: sessions };
  return bad(`is no session, and no last line such as ${formatEnd(1)} either`);
}

function parseSession(members: Members): SessionLine {
  const problems: string[] = [];
  const member: ReadMember = (name, parse, expected) => {
    const value = parse(members[name]);
    if (value === undefined) {
      problems.push(`${name} must be ${expected}, got ${described(members[name])}`);
    }
    return value;
  };
  const key = member('key', parseKey, '32 digits of 0-9 and a-f');
  const machine = member('owner', parseOwner, 'a Machine id, 1 to 32 characters of a-z and 0-9');
  const origin = member('origin', parseOrigin, `one of ${EVICTION_ORDER.join(', ')}`);
  const generation = member('generation', parseGeneration, 'a whole number from 1');
  const createdAt = member('createdAt', parseMoment, A_MOMENT);
  const expiresAt = member('expiresAt', parseMoment, A_MOMENT);
  const isWell =
    key && machine && origin && generation && createdAt !== undefined && expiresAt !== undefined;
  return isWell
    ? { kind: 'session', binding: { key, machine, origin, generation, createdAt, expiresAt } }
    : bad(problems.join('; '));
}

type Members = Readonly<Record<string, unknown>>;
/** The value of a member, or undefined, and then there is a problem more. */
type ReadMember = <Value>(
  name: string,
  parse: (value: unknown) => Value | undefined,
  expected: string,
) => Value | undefined;

/** What every store can hold as a generation. */
const MAX_GENERATION = 2_147_483_647;
/** The last moment that a Date can show (ECMA-262, Time Values). */
const MAX_MOMENT = 8.64e15;
const A_MOMENT = 'a whole number of ms since the epoch';

function parseKey(value: unknown): SessionKey | undefined {
  return typeof value === 'string' ? parseSessionKey(value) : undefined;
}

function parseOwner(value: unknown): MachineId | undefined {
  return typeof value === 'string' ? parseMachineId(value) : undefined;
}

function parseOrigin(value: unknown): BindingOrigin | undefined {
  return EVICTION_ORDER.find((origin) => origin === value);
}

function parseGeneration(value: unknown): number | undefined {
  return isWhole(value, 1) && value <= MAX_GENERATION ? value : undefined;
}

function parseMoment(value: unknown): number | undefined {
  return isWhole(value, 0) && value <= MAX_MOMENT ? value : undefined;
}

function isWhole(value: unknown, min: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min;
}

function parseObject(text: string): Members | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Members)
      : undefined;
  } catch {
    // The reason that JSON.parse gives quotes the text.
    return undefined;
  }
}

function bad(problem: string): SessionLine {
  return { kind: 'bad', problem };
}

/** Numbers are shown; of a text only how long it is. */
function described(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return `a text of ${value.length} characters`;
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : 'an object';
}

/**
 * The format of exported sessions: JSON, one value a line.
 *
 * ```
 * {"format":"fly-affinity-sessions","version":1}
 * {"key":<32 hex digits>,"owner":<machine>,"origin":"learned","generation":1,"createdAt":<ms>,"expiresAt":<ms>}
 * {"end":"fly-affinity-sessions","sessions":1}
 * ```
 * Times are ms since the epoch. The last line tells a whole document from a truncated one; documents
 * may follow each other. Readers ignore unknown members, so a new member needs no new version. There are
 * keys and never ids, and no message quotes a line: a value in the wrong place may be an id, which is a
 * credential.
 */
import * as v from 'valibot';
import { asObject, parseJson } from '../json.ts';
import { MachineIdSchema, SessionKeySchema, wholeNumber } from '../schemas.ts';
import type { Binding } from '../session.ts';
import { EVICTION_ORDER } from '../store/store.ts';

export type SessionLine =
  | { readonly kind: 'head' }
  | { readonly kind: 'session'; readonly binding: Binding }
  | { readonly kind: 'end'; readonly sessionCount: number }
  /** The head of another format or of a newer version: the rest can't be read. */
  | { readonly kind: 'foreign'; readonly problem: string }
  | { readonly kind: 'bad'; readonly problem: string };

const FORMAT = 'fly-affinity-sessions';
const VERSION = 1;

/** What the first line must be. */
export const HEAD = JSON.stringify({ format: FORMAT, version: VERSION });

/** Without the line break, as the others. */
export function formatSession(binding: Binding): string {
  const { key, machine: owner, origin, generation, createdAt, expiresAt } = binding;
  return JSON.stringify({ key, owner, origin, generation, createdAt, expiresAt });
}

export function formatEnd(sessionCount: number): string {
  return JSON.stringify({ end: FORMAT, sessions: sessionCount });
}

export function parseSessionLine(text: string): SessionLine {
  const members = asObject(parseJson(text));
  if (members === undefined) return bad('is not a JSON object');
  if ('format' in members) return parseHead(members);
  if ('end' in members) return parseEnd(members);
  return parseSession(members);
}

type Members = Readonly<Record<string, unknown>>;

function parseHead({ format, version }: Members): SessionLine {
  if (format !== FORMAT) {
    return { kind: 'foreign', problem: `has another format than ${FORMAT}` };
  }
  if (version === VERSION) return { kind: 'head' };
  const problem =
    Number.isSafeInteger(version) && Number(version) > VERSION
      ? `has version ${Number(version)}, but this fly-affinity reads version ${VERSION}: use a newer one`
      : `version must be ${VERSION}, got ${describe(version)}`;
  return { kind: 'foreign', problem };
}

const EndSchema = v.object({
  end: v.literal(FORMAT),
  sessions: wholeNumber(0, Number.MAX_SAFE_INTEGER, 'a whole number'),
});

function parseEnd(members: Members): SessionLine {
  if (v.is(EndSchema, members)) return { kind: 'end', sessionCount: members.sessions };
  return bad(`is neither a session nor a last line such as ${formatEnd(1)}`);
}

/** The largest generation that every store can hold. */
const MAX_GENERATION = 2_147_483_647;
/** The latest time that a Date can show (ECMA-262, Time Values). */
const MAX_TIME = 8.64e15;
const TimeSchema = wholeNumber(0, MAX_TIME, 'a whole number of ms since the epoch');

const SessionSchema = v.object({
  key: SessionKeySchema,
  owner: MachineIdSchema,
  origin: v.picklist(EVICTION_ORDER, `one of ${EVICTION_ORDER.join(', ')}`),
  generation: wholeNumber(1, MAX_GENERATION, 'a whole number from 1'),
  createdAt: TimeSchema,
  expiresAt: TimeSchema,
});

function parseSession(members: Members): SessionLine {
  const { success, output, issues } = v.safeParse(SessionSchema, members);
  if (!success) return bad(issues.map(describeIssue).join('; '));
  const { key, owner: machine, origin, generation, createdAt, expiresAt } = output;
  return {
    kind: 'session',
    binding: { key, machine, origin, generation, createdAt, expiresAt },
  };
}

function describeIssue(issue: v.InferIssue<typeof SessionSchema>): string {
  const name = v.getDotPath(issue) as keyof typeof SessionSchema.entries;
  // For a missing member the issue has a message of valibot's own.
  const expected = SessionSchema.entries[name].message;
  return `${name} must be ${String(expected)}, got ${describe(issue.input)}`;
}

function bad(problem: string): SessionLine {
  return { kind: 'bad', problem };
}

/** Shows numbers; of a string only its length. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return `a string of ${value.length} characters`;
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : 'an object';
}

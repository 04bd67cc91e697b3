/**
 * Documents of exported sessions, written and read as streams: the memory does not grow with them.
 * JSON, one value a line:
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
import type { Binding, MachineId } from '../session.ts';
import { asObject, parseJson } from '../json.ts';
import { MachineIdSchema, SessionKeySchema, wholeNumber } from '../schemas.ts';
import { EVICTION_ORDER } from '../store/store.ts';
import { LineSplitter, type NumberedLine } from './line-splitter.ts';

const FORMAT = 'fly-affinity-sessions';
const VERSION = 1;

/** What the first line must be. */
export const HEAD = JSON.stringify({ format: FORMAT, version: VERSION });

/** Many lines in each chunk. */
export function formatDocument(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  return inChunks(formatLines(bindings));
}

async function* formatLines(
  bindings: AsyncIterable<Binding> | Iterable<Binding>,
): AsyncGenerator<string> {
  let count = 0;
  yield HEAD;
  for await (const binding of bindings) {
    count += 1;
    yield formatSession(binding);
  }
  yield formatEnd(count);
}

/** The smallest chunk, but for the last one. */
const CHUNK_CHARACTERS = 32_768;

/** Adds the line breaks, and joins lines to chunks. */
export async function* inChunks(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let text = '';
  for await (const line of lines) {
    text += `${line}\n`;
    if (text.length < CHUNK_CHARACTERS) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

/** What a reader finds, in order; `line` counts from 1. */
export type DocumentItem =
  | { readonly kind: 'session'; readonly line: number; readonly binding: Binding }
  | { readonly kind: 'bad'; readonly line: number; readonly problem: string }
  /** The document as a whole is not valid: the reader ignores the rest. */
  | { readonly kind: 'broken'; readonly line: number; readonly problem: string };

/** Several times the longest line of an export. */
const MAX_LINE_BYTES = 2_048;

const TOO_LONG = { kind: 'bad', problem: `is longer than ${MAX_LINE_BYTES} bytes` } as const;
const EMPTY = `nothing arrived; the first line must be ${HEAD}`;
const TRUNCATED = 'the export is truncated: its last line, which counts the sessions, is missing';

/**
 * Reads one or more documents.
 *
 *   before-head --head--> in-sessions --last line--> between --head--> in-sessions
 *        |                     |                        |
 *        +---- another line ---+---- another head ------+---- another line ----> broken
 */
export class DocumentReader {
  readonly #lines = new LineSplitter(MAX_LINE_BYTES);
  #state: 'before-head' | 'in-sessions' | 'between' | 'broken' = 'before-head';
  /** Of the current document, to be compared with its last line. */
  #sessionCount = 0;
  #lastLine = 0;

  push(chunk: Buffer): DocumentItem[] {
    return this.#lines.push(chunk).flatMap((line) => this.#read(line));
  }

  end(): DocumentItem[] {
    const items = this.#lines.end().flatMap((line) => this.#read(line));
    if (this.#state === 'before-head') return [...items, this.#break(this.#lastLine, EMPTY)];
    if (this.#state === 'in-sessions') return [...items, this.#break(this.#lastLine, TRUNCATED)];
    return items;
  }

  #read(line: NumberedLine): DocumentItem[] {
    this.#lastLine = line.number;
    if (this.#state === 'broken' || line.text?.trim() === '') return [];
    const item = this.#state === 'in-sessions' ? this.#readInside(line) : this.#readOutside(line);
    return item === undefined ? [] : [item];
  }

  #readOutside({ number, text = '' }: NumberedLine): DocumentItem | undefined {
    const parsed = parseSessionLine(text);
    if (parsed.kind === 'foreign') return this.#break(number, parsed.problem);
    if (parsed.kind !== 'head') {
      return this.#break(number, `must be the first line of an export: ${HEAD}`);
    }
    this.#state = 'in-sessions';
    this.#sessionCount = 0;
    return undefined;
  }

  #readInside({ number: line, text }: NumberedLine): DocumentItem | undefined {
    const parsed = text === undefined ? TOO_LONG : parseSessionLine(text);
    switch (parsed.kind) {
      case 'session':
        this.#sessionCount += 1;
        return { kind: 'session', line, binding: parsed.binding };
      case 'bad':
        this.#sessionCount += 1;
        return { kind: 'bad', line, problem: parsed.problem };
      case 'end':
        this.#state = 'between';
        if (parsed.sessionCount === this.#sessionCount) return undefined;
        return this.#break(
          line,
          `counts ${parsed.sessionCount} sessions, but ${this.#sessionCount} arrived: the export is incomplete`,
        );
      case 'head':
        return this.#break(line, 'comes before the last line of the previous export');
      case 'foreign':
        return this.#break(line, parsed.problem);
    }
  }

  #break(line: number, problem: string): DocumentItem {
    this.#state = 'broken';
    return { kind: 'broken', line, problem };
  }
}

/* Selects sessions of a store, by owner and number. */

export interface Selection {
  readonly owner?: MachineId | undefined;
  /** The most sessions to select. */
  readonly limit?: number | undefined;
}

/** `signal` also ends a walk that finds no matching session. */
export async function* selectSessions(
  bindings: AsyncIterable<Binding>,
  { owner, limit = Infinity }: Selection,
  signal?: AbortSignal,
): AsyncGenerator<Binding> {
  let remaining = limit;
  if (remaining <= 0) return;
  for await (const binding of bindings) {
    signal?.throwIfAborted();
    if (owner !== undefined && binding.machine !== owner) continue;
    yield binding;
    remaining -= 1;
    if (remaining <= 0) return;
  }
}

type SessionLine =
  | { readonly kind: 'head' }
  | { readonly kind: 'session'; readonly binding: Binding }
  | { readonly kind: 'end'; readonly sessionCount: number }
  /** The head of another format or of a newer version: the rest can't be read. */
  | { readonly kind: 'foreign'; readonly problem: string }
  | { readonly kind: 'bad'; readonly problem: string };

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

/**
 * The last lines of the log about the state of the sidecar and about conflicts of sessions, in memory: for the
 * status page. Lines about single requests must not get here: they would push out the others.
 */
import type { Clock } from '../clock.ts';
import { describeError, type Logger } from './log.ts';
import { shorten } from './log-text.ts';
import { kindOfProtocol } from './metrics.ts';

const LEVELS = ['info', 'warn', 'error', 'fatal'] as const;
type EventLevel = (typeof LEVELS)[number];

export interface RecentEvent {
  /** ms since the epoch; of the last one if there were several in a row. */
  readonly at: number;
  readonly level: EventLevel;
  readonly message: string;
  /** How many of them came in a row. */
  readonly count: number;
  /** Fields that name no host and no path. A session is the beginning of its key. */
  readonly about: Readonly<Record<string, string>>;
  /** All other fields, as JSON: they may name hosts and paths. */
  readonly detail: string;
}

/** So many of each kind are kept: about sessions, and about anything else. */
const MAX_EVENTS = 25;
const MAX_VALUE_CHARACTERS = 64;
const MAX_DETAIL_CHARACTERS = 500;
/** A session key is recognized by them among few others. */
const SHOWN_KEY_DIGITS = 8;

/** Fields and members of fields whose values are constants, ids of Machines, numbers or keys. */
const OPEN_FIELDS: ReadonlySet<string> = new Set([
  ...['peer', 'session', 'owner', 'accepted', 'why', 'protocol', 'products', 'operation', 'read'],
  ...['upstream.state', 'upstream.reason', 'store.state', 'store.failing', 'store.code'],
  ...['fleet', 'fleet.kind', 'others', 'refusedCount'],
]);

export class RecentEvents {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #ofSessions: RecentEvent[] = [];
  readonly #others: RecentEvent[] = [];

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** A logger that also keeps what it logs here, whatever its level. */
  watch(logger: Logger): Logger {
    const watched = LEVELS.map((level) => [
      level,
      (fields: object, message: string): void => {
        this.#keep(level, fields, message);
        logger[level](fields, message);
      },
    ]);
    return { ...logger, ...(Object.fromEntries(watched) as Pick<Logger, EventLevel>) };
  }

  /** About sessions: conflicts, releases. The last one first. */
  ofSessions(): readonly RecentEvent[] {
    return this.#ofSessions.toReversed();
  }

  /** About anything else: changes of state, failures. The last one first. */
  others(): readonly RecentEvent[] {
    return this.#others.toReversed();
  }

  #keep(level: EventLevel, fields: object, message: string): void {
    const events = 'session' in fields ? this.#ofSessions : this.#others;
    const { about, detail } = split(fields);
    const last = events.at(-1);
    const isRepeated =
      last?.message === message && JSON.stringify(last.about) === JSON.stringify(about);
    if (isRepeated) events.pop();
    const count = isRepeated ? last.count + 1 : 1;
    events.push({ at: this.#clock.now(), level, message, count, about, detail });
    if (events.length > MAX_EVENTS) events.shift();
  }
}

function split(fields: object): Pick<RecentEvent, 'about' | 'detail'> {
  const about: Record<string, string> = {};
  const rest: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields) as [string, unknown][]) {
    if (name === 'self' || value === undefined) continue;
    const members = membersOf(name, value);
    const open = members.filter(([path]) => OPEN_FIELDS.has(path));
    for (const [path, text] of open) about[path] = text;
    const isWhole = open.length > 0 && open.length === members.length;
    if (!isWhole) rest[name] = value instanceof Error ? describeError(value, 1) : value;
  }
  const detail = Object.keys(rest).length === 0 ? '' : toJson(rest);
  return { about, detail: shorten(detail, MAX_DETAIL_CHARACTERS) };
}

function toJson(fields: object): string {
  try {
    return JSON.stringify(fields);
  } catch {
    // Circular, or too large a number: the log has it.
    return '';
  }
}

/** The field itself, or the members of an object that are no objects. */
function membersOf(name: string, value: unknown): [path: string, text: string][] {
  if (value === undefined) return [];
  if (typeof value !== 'object' || value === null) return [[name, textOf(name, value)]];
  return Object.entries(value as Record<string, unknown>)
    .filter(([, member]) => typeof member !== 'object' && member !== undefined)
    .map(([key, member]) => [`${name}.${key}`, textOf(key, member)]);
}

function textOf(name: string, value: unknown): string {
  const text = String(value);
  if (name === 'session') return text.slice(0, SHOWN_KEY_DIGITS);
  return shorten(name === 'protocol' ? kindOfProtocol(text) : text, MAX_VALUE_CHARACTERS);
}

/** How the simulated edge picks the Machine that gets a request first. */
import type { MachineId } from '../session.ts';
import { createBoundedMap } from './replay-cache.ts';

export const SPREADS = ['round-robin', 'random', 'never-same'] as const;

/**
 * `round-robin`: one after the other. `random`: evenly by chance. `never-same`: the adversary of a
 * session proxy; two requests in a row never start at the same Machine, and a session's request
 * never starts at the Machine that served that session last, if there is another.
 */
export type SpreadName = (typeof SPREADS)[number];

export interface Spread {
  /** All Machines, in the order to try. `session`: the session id in the request, if any. */
  order<T extends { readonly id: MachineId }>(machines: readonly T[], session?: string): T[];
  /** Reports where a request starts, before its response: others may start meanwhile. */
  noteFirst(machine: MachineId): void;
  /** Reports which Machine served a session. */
  noteServed(session: string, machine: MachineId): void;
}

/** `random` returns numbers from 0 up to but not including 1; a seeded one makes `random` repeatable. */
export function createSpread(name: SpreadName, random: () => number): Spread {
  switch (name) {
    case 'round-robin':
      return createRoundRobin();
    case 'random':
      return { order: (machines) => shuffled(machines, random), noteFirst, noteServed: noteFirst };
    case 'never-same':
      return createNeverSame();
  }
}

/** These spreads keep no memory of where requests went. */
function noteFirst(): void {
  return;
}

function createRoundRobin(): Spread {
  let next = 0;
  return {
    order: (machines) => rotated(machines, next++),
    noteFirst,
    noteServed: noteFirst,
  };
}

function createNeverSame(): Spread {
  /** When a request started at each Machine for the last time, by number of the request. */
  const lastFirst = new Map<MachineId, number>();
  const servedBy = createBoundedMap<string, MachineId>(MAX_SESSIONS);
  let requests = 0;
  let previousFirst: MachineId | undefined;
  return {
    order: (machines, session) => {
      const served = session === undefined ? undefined : servedBy.get(session);
      const badness = (id: MachineId): number =>
        (id === served ? 2 : 0) + (id === previousFirst ? 1 : 0);
      return machines.toSorted(
        (a, b) =>
          badness(a.id) - badness(b.id) || (lastFirst.get(a.id) ?? 0) - (lastFirst.get(b.id) ?? 0),
      );
    },
    noteFirst: (machine) => {
      requests += 1;
      lastFirst.set(machine, requests);
      previousFirst = machine;
    },
    noteServed: (session, machine) => servedBy.set(session, machine),
  };
}

/** Sessions remembered by `never-same`; the oldest are forgotten first. */
const MAX_SESSIONS = 10_000;

function rotated<T>(items: readonly T[], by: number): T[] {
  const start = items.length === 0 ? 0 : by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

/**
 * The headers that the simulated edge takes for a session. Only the spread uses them, to make the hardest
 * choice; it deliberately shares no code with the proxy that it tests.
 */
const HEADERS = ['mcp-session-id', 'x-session-id'] as const;
const QUERY_NAMES = ['session_id', 'sessionId', 'sid'] as const;

export function sessionTextOfRequest(
  headers: NodeJS.Dict<string | string[]>,
  target: string,
): string | undefined {
  const query = new URLSearchParams(target.split('?', 2)[1]);
  const inQuery = QUERY_NAMES.map((name) => query.get(name)).find((value) => value !== null);
  return sessionTextOfHeaders(headers) ?? inQuery ?? headers.cookie?.toString();
}

/** Reads a request, or a response with a new session's id. */
export function sessionTextOfHeaders(headers: NodeJS.Dict<string | string[]>): string | undefined {
  return HEADERS.map((name) => headers[name]?.toString()).find((value) => value !== undefined);
}

/** What the edge reports about a request: one record, one line, and its own error responses. */
import type { MachineId } from '../session.ts';

/** A Machine that got the request, and how the request reached it. */
export interface Hop {
  readonly machine: MachineId;
  /** `cached`: chosen by the replay cache, in place of a first Machine and a replay. */
  readonly how: 'first' | 'cached' | 'replay' | 'fallback';
}

export interface EdgeRequestRecord {
  /** `Fly-Request-Id`, which the client gets too. */
  readonly requestId: string;
  readonly method: string;
  /** Without the query, which may hold a session id. */
  readonly path: string;
  /** Every Machine that got the request, in order; a Machine that was not reached is not among them. */
  readonly hops: readonly Hop[];
  /** The Machine that got it first. */
  readonly first: MachineId | undefined;
  /** The Machine whose response the client gets; undefined if the edge responds itself. */
  readonly served: MachineId | undefined;
  /** The number of replays; a fallback does not count. */
  readonly replays: number;
  /** 499: the client disconnected before a response. */
  readonly status: number;
  /** From the request's head to the response's head. */
  readonly ms: number;
  /** Set when the edge responds itself. */
  readonly error: EdgeErrorCode | undefined;
}

/** `POST /mcp  d8901e5b6e1234 -> 3287e444b64708  200  1 replay  12 ms` */
export function requestLine(record: EdgeRequestRecord): string {
  const { method, path, first, served, replays, status, ms, error } = record;
  const machines = `${first ?? '(none)'} -> ${served ?? '(edge)'}`;
  const count = replays === 1 ? '1 replay' : `${replays} replays`;
  const words = [`${method} ${path}`, machines, String(status), count, `${ms.toFixed(1)} ms`];
  if (record.hops[0]?.how === 'cached') words.push('from the replay cache');
  return (error === undefined ? words : [...words, error]).join('  ');
}

/**
 * The errors of Fly Proxy (https://fly.io/docs/monitoring/error-codes/), and the status that the client
 * gets; the statuses are not documented.
 */
const ERRORS = {
  PA01: { status: 502, text: 'the body of the request is too large to be replayed' },
  PA02: { status: 502, text: 'more than ten replays' },
  PA03: { status: 502, text: 'invalid fly-replay' },
  PA04: { status: 502, text: 'the app that fly-replay names was not found' },
  PC01: { status: 502, text: 'the Machine refused the connection' },
  PR01: { status: 503, text: 'no healthy Machines' },
  PR02: { status: 502, text: 'Machine not found' },
  PR03: { status: 503, text: 'no Machine was reached after all retries' },
  PR04: { status: 503, text: 'no candidate Machines' },
  PU02: { status: 502, text: 'the request could not be completed' },
} as const satisfies Record<string, { readonly status: number; readonly text: string }>;

export type EdgeErrorCode = keyof typeof ERRORS;

interface EdgeError {
  readonly code: EdgeErrorCode;
  readonly status: number;
  readonly body: string;
}

export function edgeError(code: EdgeErrorCode): EdgeError {
  const { status, text } = ERRORS[code];
  return { code, status, body: `${code}: ${text}\n` };
}

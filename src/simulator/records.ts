/** What the simulator tells of a request: one record, and one line. */
import type { MachineId } from '../session.ts';
import type { EdgeErrorCode } from './errors.ts';

/** A Machine that got the request, and how it came there. */
export interface Hop {
  readonly machine: MachineId;
  /** `cached`: as the replay cache said, which takes the place of a first Machine and a replay. */
  readonly how: 'first' | 'cached' | 'replay' | 'fallback';
}

export interface RequestRecord {
  /** `Fly-Request-Id`, which the client gets too. */
  readonly requestId: string;
  readonly method: string;
  /** Without the query, which may hold a session id. */
  readonly path: string;
  /** Every Machine that got the request, in order; a Machine that was not reached is not among them. */
  readonly hops: readonly Hop[];
  /** The Machine that got it first. */
  readonly first: MachineId | undefined;
  /** The Machine whose answer the client gets; undefined if the edge answers by itself. */
  readonly served: MachineId | undefined;
  /** Replays followed; the way back of a fallback is none. */
  readonly replays: number;
  /** 499: the client left before there was an answer. */
  readonly status: number;
  /** From the request's head to the answer's head. */
  readonly ms: number;
  /** Set when the edge answers by itself. */
  readonly error: EdgeErrorCode | undefined;
}

/** `POST /mcp  d8901e5b6e1234 -> 3287e444b64708  200  1 replay  12 ms` */
export function requestLine(record: RequestRecord): string {
  const { method, path, first, served, replays, status, ms, error } = record;
  const machines = `${first ?? '(none)'} -> ${served ?? '(edge)'}`;
  const count = replays === 1 ? '1 replay' : `${replays} replays`;
  const words = [`${method} ${path}`, machines, String(status), count, `${ms.toFixed(1)} ms`];
  if (record.hops[0]?.how === 'cached') words.push('from the replay cache');
  return (error === undefined ? words : [...words, error]).join('  ');
}

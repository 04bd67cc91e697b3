/**
 * Generates and checks bodies: what is sent, what is requested, and whether it arrives unchanged.
 */
import { createHash } from 'node:crypto';
import { wrong } from './failure.ts';
import { payload, PayloadCheck } from './payload.ts';
import type { Step } from './step.ts';
import type { Body } from './wire/request.ts';
import type { Sink } from './wire/response.ts';

const MAX_SEED = 60_000;
const MAX_PIECES = 200;
const SLOW_SHARE = 0.1;
const MAX_PAUSE_MS = 5;

export function drawSeed({ chance }: Step): number {
  return chance.integer(0, MAX_SEED);
}

export function drawBody(step: Step, minBytes: number, maxBytes: number): Body {
  const { chance } = step;
  const length = chance.size(minBytes, maxBytes);
  return {
    seed: drawSeed(step),
    length,
    framing: chance.pick(['length', 'chunked'] as const),
    pieceBytes: Math.max(chance.size(16, 65_536), Math.ceil(length / MAX_PIECES)),
    pauseMs: chance.isTrue(SLOW_SHARE) ? chance.integer(1, MAX_PAUSE_MS) : 0,
  };
}

/** A body that is too large for a replay. */
export function emptyChunkedBody(): Body {
  return { seed: 0, length: 0, framing: 'chunked', pieceBytes: 1, pauseMs: 0 };
}

export function bytesTarget(seed: number, length: number, framing: 'length' | 'chunked'): string {
  return `/bytes?seed=${seed}&length=${length}&framing=${framing}`;
}

/** Throws at the first byte that is wrong. */
export function payloadSink(seed: number): Sink {
  const check = new PayloadCheck(seed);
  return (piece) => {
    const at = check.take(piece);
    if (at !== undefined) throw wrong(`the byte at ${at} is wrong`);
  };
}

/** A body that was cut off and looks complete is never right. */
export function checkLength(bytes: number, expected: number): void {
  if (bytes !== expected)
    throw wrong(`a body that looks complete has ${bytes} of ${expected} bytes`);
}

/** Throws for a body that is not JSON. */
export function jsonOf({ body }: { readonly body: Buffer }): unknown {
  const text = body.toString();
  try {
    return JSON.parse(text);
  } catch {
    throw wrong(`no JSON: ${JSON.stringify(text.slice(0, 200))}`);
  }
}

export function hashOf({ seed, length }: Pick<Body, 'seed' | 'length'>): string {
  return createHash('sha256').update(payload(seed, length)).digest('hex');
}

/**
 * Event streams that stay open for a while: every event arrives, in order, and a complete end is
 * complete.
 */
import { drawSeed, emptyChunkedBody } from '../bodies.ts';
import { call } from '../call.ts';
import { Left, wrong } from '../failure.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import type { Sink } from '../wire/response.ts';

const MAX_GAP_MS = 500;
const LEAVE_SHARE = 0.3;
const FORWARDED_SHARE = 0.5;
const HTTP10_SHARE = 0.2;

export async function followEvents(step: Step): Promise<void> {
  const { chance, around } = step;
  const way = await chooseWay(step);
  const seed = drawSeed(step);
  const gap = chance.integer(20, MAX_GAP_MS);
  const count = Math.max(1, Math.floor(chance.integer(1, around.longestStayMs) / gap));
  const leaveAfter = chance.isTrue(LEAVE_SHARE) ? chance.integer(1, count) : Infinity;
  const isForwarded = way.owner !== undefined && chance.isTrue(FORWARDED_SHARE);
  // The end of the connection is the end of the stream here. A sidecar must reset it where the
  // stream breaks; a killed app does not.
  const isHttp10 = !isForwarded && !around.isDirect && chance.isTrue(HTTP10_SHARE);
  const events = new EventCheck(seed, count);
  const sink: Sink = (piece) => {
    events.take(piece);
    if (events.seen >= leaveAfter || step.isOver.aborted) throw new Left();
  };
  await call(step, way, {
    method: isForwarded ? 'POST' : 'GET',
    target: `/events?seed=${seed}&gap=${gap}&count=${count}`,
    ...(isForwarded && { body: emptyChunkedBody() }),
    ...(isHttp10 && { version: '1.0' }),
    sink,
  });
  events.checkEnd();
}

class EventCheck {
  readonly #seed: number;
  readonly #count: number;
  #text = '';
  #hasEnd = false;
  seen = 0;

  constructor(seed: number, count: number) {
    this.#seed = seed;
    this.#count = count;
  }

  take(piece: Buffer): void {
    const events = (this.#text + piece.toString()).split('\n\n');
    this.#text = events.pop() ?? '';
    for (const event of events) this.#takeEvent(event);
  }

  /** The response looks complete: so it must be. */
  checkEnd(): void {
    if (this.#hasEnd && this.#text === '') return;
    throw wrong(`a stream that looks complete has ${this.seen} of ${this.#count} events`);
  }

  #takeEvent(event: string): void {
    const isLast = this.seen === this.#count;
    const next = this.seen + 1;
    const expected = isLast ? 'event: end\ndata: end' : `id: ${next}\ndata: ${this.#seed} ${next}`;
    if (event !== expected || this.#hasEnd) {
      throw wrong(`event ${JSON.stringify(event)} in place of ${JSON.stringify(expected)}`);
    }
    if (isLast) this.#hasEnd = true;
    else this.seen = next;
  }
}

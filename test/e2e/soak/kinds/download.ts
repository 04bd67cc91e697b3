/** GETs of all sizes, and downloads that are read slowly. */
import { systemClock } from '../../../../src/clock.ts';
import { bytesTarget, checkLength, drawSeed, emptyChunkedBody, payloadSink } from '../bodies.ts';
import { call } from '../call.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import type { Sink } from '../wire/response.ts';

const SMALL_BYTES = 16_384;
const LARGE_BYTES = 1_000_000;
const SLOW_BYTES = 8_000_000;
/** How often a head is sent in pieces. */
const FRAGMENTED_SHARE = 0.1;
/** How often a download is requested in a way that can only be forwarded. */
const FORWARDED_SHARE = 0.5;

export async function get(step: Step): Promise<void> {
  const { chance } = step;
  const way = await chooseWay(step);
  const [seed, length] = [drawSeed(step), chance.size(1, SMALL_BYTES)];
  const response = await call(step, way, {
    method: 'GET',
    target: bytesTarget(seed, length, 'length'),
    ...(chance.isTrue(FRAGMENTED_SHARE) && { headPieceBytes: chance.integer(10, 60) }),
    sink: payloadSink(seed),
  });
  checkLength(response.bytes, length);
}

export function download(step: Step): Promise<void> {
  return downloadThrough(step, LARGE_BYTES, (sink) => sink);
}

/** Some hundred pieces, with a pause after each. */
export function readSlowly(step: Step): Promise<void> {
  const pauseMs = step.chance.integer(5, 40);
  return downloadThrough(step, SLOW_BYTES, (sink) => async (piece) => {
    await sink(piece);
    if (!step.isOver.aborted) await systemClock.sleep(pauseMs);
  });
}

async function downloadThrough(
  step: Step,
  maxBytes: number,
  slow: (sink: Sink) => Sink,
): Promise<void> {
  const { chance } = step;
  const way = await chooseWay(step);
  const [seed, length] = [drawSeed(step), chance.size(maxBytes / 100, maxBytes)];
  const isForwarded = way.owner !== undefined && chance.isTrue(FORWARDED_SHARE);
  const response = await call(step, way, {
    method: isForwarded ? 'POST' : 'GET',
    target: bytesTarget(seed, length, chance.pick(['length', 'chunked'])),
    ...(isForwarded && { body: emptyChunkedBody() }),
    sink: slow(payloadSink(seed)),
  });
  checkLength(response.bytes, length);
}

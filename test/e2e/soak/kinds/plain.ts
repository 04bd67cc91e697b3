/** Requests whose response has no body, and clients of HTTP/1.0. */
import { bytesTarget, checkLength, drawSeed, payloadSink } from '../bodies.ts';
import { call } from '../call.ts';
import { wrong } from '../failure.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';

const MAX_BYTES = 100_000;

export async function head(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const length = step.chance.size(1, MAX_BYTES);
  const target = bytesTarget(drawSeed(step), length, 'length');
  const { fields } = await call(step, way, { method: 'HEAD', target });
  const stated = fields.get('content-length');
  if (stated !== String(length))
    throw wrong(`content-length ${stated ?? 'missing'}, not ${length}`);
}

export async function bodiless(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const status = step.chance.pick([204, 304]);
  const target = `/status?status=${status}`;
  const method = step.chance.pick(['GET', 'POST', 'DELETE']);
  await call(step, way, { method, target, expects: status });
}

/** A chunked response of the app ends with the connection here: as complete only if it is. */
export async function http10(step: Step): Promise<void> {
  const { chance } = step;
  const way = await chooseWay(step);
  const [seed, length] = [drawSeed(step), chance.size(1, MAX_BYTES)];
  // A killed app ends its connection as if the body were complete. A sidecar does not.
  const framing = step.around.isDirect ? 'length' : chance.pick(['length', 'chunked'] as const);
  const target = bytesTarget(seed, length, framing);
  const sink = payloadSink(seed);
  const response = await call(step, way, { method: 'GET', target, version: '1.0', sink });
  checkLength(response.bytes, length);
}

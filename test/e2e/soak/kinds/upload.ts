/** Requests with a body: POSTs whose body is echoed, and uploads whose hash is returned. */
import { checkLength, drawBody, hashOf, jsonOf, payloadSink } from '../bodies.ts';
import { call } from '../call.ts';
import { wrong } from '../failure.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import type { Body } from '../wire/request.ts';
import type { SoakResponse } from '../send-request.ts';

const MAX_POST_BYTES = 100_000;
const MIN_UPLOAD_BYTES = 1_000;
const MAX_UPLOAD_BYTES = 5_000_000;
const MAX_REJECTED_BYTES = 2_000_000;

/** The app responds while it reads. */
export async function post(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const body = drawBody(step, 1, MAX_POST_BYTES);
  const sink = payloadSink(body.seed);
  const response = await call(step, way, { method: 'POST', target: '/echo', body, sink });
  checkLength(response.bytes, body.length);
}

export async function upload(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const body = drawBody(step, MIN_UPLOAD_BYTES, MAX_UPLOAD_BYTES);
  checkReceipt(await call(step, way, { method: 'PUT', target: '/upload', body }), body);
}

/** `Expect: 100-continue`: the body waits for the interim response. */
export async function expectContinue(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const body = drawBody(step, 1, MAX_POST_BYTES);
  const response = await call(step, way, {
    method: 'POST',
    target: '/upload',
    fields: ['Expect: 100-continue'],
    body,
    awaitsContinue: true,
  });
  checkReceipt(response, body);
}

/** The app rejects the upload before it has read it. */
export async function rejectedEarly(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const body = drawBody(step, MAX_POST_BYTES, MAX_REJECTED_BYTES);
  const sendsOn = step.chance.isTrue(0.5);
  const target = `/early?connection=${step.chance.pick(['close', 'keep-alive'])}`;
  await call(step, way, { method: 'POST', target, body, sendsOn, expects: 413 });
}

function checkReceipt(receipt: SoakResponse, body: Body): void {
  const { bytes, sha256 } = jsonOf(receipt) as { bytes: number; sha256: string };
  if (bytes !== body.length) throw wrong(`the app received ${bytes} of ${body.length} bytes`);
  if (sha256 !== hashOf(body)) throw wrong('the app received other bytes than were sent');
}

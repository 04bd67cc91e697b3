/** Clients that end their side of the connection, and continue to read. */
import { systemClock } from '../../../../src/clock.ts';
import { bytesTarget, checkLength, drawBody, drawSeed, payloadSink } from '../bodies.ts';
import { checkStatus, sendRequest, type RequestOptions } from '../send-request.ts';
import { wrong } from '../failure.ts';
import { checkNotSentElsewhere } from '../replays.ts';
import { plainWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import { Connection } from '../wire/connection.ts';
import { formatHead, UPGRADE_FIELDS, writeBody, writeHead } from '../wire/request.ts';

const MAX_BYTES = 20_000;
const MAX_WAIT_MS = 100;
/** A request without a valid or finite response ends within this time. */
const CLOSE_WITHIN_MS = 10_000;
/** A WebSocket message behind the handshake: "hi", masked with zeros (RFC 6455 §5.2). */
const FIRST_FRAME = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);

export async function halfClose(step: Step): Promise<void> {
  const { to } = plainWay(step);
  const id = step.beginRequest(to, undefined);
  const connection = await Connection.open(to);
  step.around.ledger.sent(to.name, id);
  try {
    await step.chance.pick([afterGet, afterPost, inHead, inBody, inStream, inUpgrade])(
      step,
      connection,
      id,
    );
  } finally {
    connection.destroy();
  }
}

type Ending = (step: Step, connection: Connection, id: string) => Promise<void>;

const afterGet: Ending = (step, connection, id) => {
  const [seed, length] = [drawSeed(step), step.chance.size(1, MAX_BYTES)];
  const target = bytesTarget(seed, length, step.chance.pick(['length', 'chunked']));
  const request = { method: 'GET', target, sink: payloadSink(seed) };
  return expectWhole(step, connection, request, id, length);
};

const afterPost: Ending = (step, connection, id) => {
  const body = drawBody(step, 1, MAX_BYTES);
  const request = { method: 'POST', target: '/echo', body, sink: payloadSink(body.seed) };
  return expectWhole(step, connection, request, id, body.length);
};

/** The request is complete: so is its response. */
async function expectWhole(
  step: Step,
  connection: Connection,
  request: RequestOptions,
  id: string,
  length: number,
): Promise<void> {
  const endsAfterMs = step.chance.pick([0, step.chance.integer(1, MAX_WAIT_MS)]);
  const response = await sendRequest(step, connection, { ...request, endsAfterMs }, id);
  checkNotSentElsewhere(response);
  checkStatus(response, 200);
  checkLength(response.bytes, length);
  await connection.untilClosed(CLOSE_WITHIN_MS);
}

const inHead: Ending = async (step, connection, id) => {
  // A cut head may have a cut id.
  step.around.ledger.sentMalformed(connection.machine.name);
  const head = formatHead({ method: 'GET', target: '/slow?ms=0' }, id);
  await connection.write(head.slice(0, step.chance.integer(1, head.length - 1)));
  await expectNoSuccess(step, connection);
};

const inBody: Ending = async (step, connection, id) => {
  const body = { ...drawBody(step, 2, MAX_BYTES), pauseMs: 0 };
  await writeHead(connection, { method: 'POST', target: '/upload', body }, id);
  let left = step.chance.integer(0, Math.ceil(body.length / body.pieceBytes) - 1);
  await writeBody(connection, body, () => left-- > 0);
  await expectNoSuccess(step, connection);
};

/** An incomplete request was never sent. */
async function expectNoSuccess(step: Step, connection: Connection): Promise<void> {
  await systemClock.sleep(step.chance.integer(0, MAX_WAIT_MS));
  connection.end();
  const received = await connection.untilClosed(CLOSE_WITHIN_MS);
  if (received.toString('latin1').startsWith('HTTP/1.1 2')) {
    throw wrong('an incomplete request got the response of a complete one');
  }
}

const inStream: Ending = async (step, connection, id) => {
  const target = `/events?seed=0&gap=50&count=${CLOSE_WITHIN_MS}`;
  await writeHead(connection, { method: 'GET', target }, id);
  await systemClock.sleep(step.chance.integer(0, MAX_WAIT_MS));
  connection.end();
  await connection.untilClosed(CLOSE_WITHIN_MS);
};

const inUpgrade: Ending = async (step, connection, id) => {
  const head = formatHead({ method: 'GET', target: '/ws', fields: UPGRADE_FIELDS }, id);
  await connection.write(Buffer.concat([Buffer.from(head), FIRST_FRAME]));
  const waitMs = step.chance.pick([0, step.chance.integer(1, MAX_WAIT_MS)]);
  if (waitMs > 0) await systemClock.sleep(waitMs);
  connection.end();
  await connection.untilClosed(CLOSE_WITHIN_MS);
};

/** Clients that disconnect halfway. Any response to them is ignored. */
import { systemClock } from '../../../../src/clock.ts';
import { bytesTarget, drawBody, drawSeed, payloadSink } from '../bodies.ts';
import { call, type Way } from '../call.ts';
import { Failure, Left } from '../failure.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import { Connection } from '../wire/connection.ts';
import { formatHead, writeBody, writeHead, type Request } from '../wire/request.ts';

const MAX_BODY_BYTES = 500_000;
const DOWNLOAD_BYTES = 1_000_000;
/** The app's response follows it. */
const SLOW_MS = 1_000;
const MAX_WAIT_MS = 500;

export async function abort(step: Step): Promise<void> {
  const way = await chooseWay(step);
  const moment = step.chance.pick(['head', 'body', 'waiting', 'response'] as const);
  switch (moment) {
    case 'head':
      // A cut head may have a cut id.
      step.around.ledger.sentMalformed(way.to.name);
      return leave(step, way, { method: 'GET', target: '/slow?ms=0' }, writePartOfHead);
    case 'body': {
      const body = drawBody(step, 1, MAX_BODY_BYTES);
      return leave(step, way, { method: 'POST', target: '/upload', body }, writePartOfBody);
    }
    case 'waiting':
      return leave(step, way, { method: 'GET', target: `/slow?ms=${SLOW_MS}` }, writeHead);
    case 'response':
      return leaveInResponse(step, way);
  }
}

type Write = (connection: Connection, request: Request, id: string, step: Step) => Promise<unknown>;

async function leave(step: Step, way: Way, request: Request, write: Write): Promise<void> {
  const { chance, around } = step;
  const id = step.beginRequest(way.to, way.owner);
  const connection = await Connection.open(way.to);
  around.ledger.sent(way.to.name, id);
  try {
    await write(connection, { ...request, fields: way.fields }, id, step);
    await systemClock.sleep(chance.integer(0, MAX_WAIT_MS));
  } catch (error) {
    // The response arrived before the client disconnected.
    if (!(error instanceof Failure)) throw error;
  } finally {
    if (chance.isTrue(0.5)) connection.reset();
    else connection.destroy();
  }
}

async function writePartOfHead(
  connection: Connection,
  request: Request,
  id: string,
  { chance }: Step,
): Promise<void> {
  const head = formatHead(request, id);
  await connection.write(head.slice(0, chance.integer(1, head.length - 1)));
}

async function writePartOfBody(
  connection: Connection,
  request: Request,
  id: string,
  { chance }: Step,
): Promise<void> {
  const { body } = request;
  if (!body) return;
  await writeHead(connection, request, id);
  let left = chance.integer(0, Math.floor(body.length / body.pieceBytes));
  await writeBody(connection, body, () => left-- > 0);
}

async function leaveInResponse(step: Step, way: Way): Promise<void> {
  const seed = drawSeed(step);
  const sink = payloadSink(seed);
  let left = step.chance.integer(1, DOWNLOAD_BYTES);
  await call(step, way, {
    method: 'GET',
    target: bytesTarget(seed, DOWNLOAD_BYTES, step.chance.pick(['length', 'chunked'])),
    sink: async (piece) => {
      await sink(piece);
      left -= piece.length;
      if (left <= 0) throw new Left();
    },
  });
}

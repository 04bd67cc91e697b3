/** Several requests in one packet: each gets its response, in order. */
import { bytesTarget, checkLength, drawSeed, payloadSink } from '../bodies.ts';
import { checkId, checkStatus } from '../send-request.ts';
import { Left, wrong } from '../failure.ts';
import type { Machine } from '../machine.ts';
import { payload } from '../payload.ts';
import { checkNotSentElsewhere } from '../replays.ts';
import type { Step } from '../step.ts';
import { Connection } from '../wire/connection.ts';
import { formatHead, UPGRADE_FIELDS, type Request } from '../wire/request.ts';
import { readResponse } from '../wire/response.ts';
import { BEHIND } from './behind.ts';

const MAX_REQUESTS = 8;
const MAX_BYTES = 4_000;
const POST_SHARE = 0.3;
/** How often the client marks a request as its last, and sends one more. */
const LAST_SHARE = 0.1;
const CLOSE_WITHIN_MS = 10_000;

/** A request that is fully known before it is sent. */
interface Piped extends Request {
  readonly id: string;
  readonly seed: number;
  readonly length: number;
}

export async function pipeline(step: Step): Promise<void> {
  const machine = step.anyMachine();
  const requests = drawRequests(step, machine);
  const isLast = !step.around.isDirect && step.chance.isTrue(LAST_SHARE);
  const last = drawRequest(step, machine, isLast ? ['Connection: close'] : []);
  const connection = await Connection.open(machine);
  try {
    const all = [...requests, last];
    const behind = isLast ? [Buffer.from(BEHIND)] : [];
    await connection.write(Buffer.concat([...all.map(bytesOf), ...behind]));
    for (const request of all) await readResponseTo(step, connection, request);
    const left = isLast ? await connection.untilClosed(CLOSE_WITHIN_MS) : [];
    if (connection.hasUnread || left.length > 0) throw wrong('bytes behind the last response');
  } finally {
    connection.destroy();
  }
}

/** The last of them requests a WebSocket. node:http itself fails there. */
export async function pipelinedUpgrade(step: Step): Promise<void> {
  if (step.around.isDirect) throw new Left();
  const machine = step.anyMachine();
  const requests = drawRequests(step, machine);
  const id = step.beginRequest(machine, undefined);
  const upgrade = { id, method: 'GET', target: '/ws', fields: UPGRADE_FIELDS };
  const connection = await Connection.open(machine);
  try {
    step.around.ledger.sent(machine.name, id);
    const head = Buffer.from(formatHead(upgrade, id));
    await connection.write(Buffer.concat([...requests.map(bytesOf), head]));
    for (const request of requests) await readResponseTo(step, connection, request);
    const response = await readResponse(connection, {
      method: 'GET',
      isHttp10: false,
      sinkFor: () => () => undefined,
    });
    step.around.ledger.recordResponse(machine.name, id, response.status);
    checkNotSentElsewhere(response);
    checkStatus(response, 101);
    checkId(response, id);
  } finally {
    connection.destroy();
  }
}

function drawRequests(step: Step, machine: Machine): readonly Piped[] {
  const count = step.chance.integer(1, MAX_REQUESTS - 1);
  return Array.from({ length: count }, () => drawRequest(step, machine, []));
}

/** It is in the ledger, so it must be sent. */
export function drawRequest(step: Step, machine: Machine, fields: readonly string[]): Piped {
  const { chance } = step;
  const id = step.beginRequest(machine, undefined);
  step.around.ledger.sent(machine.name, id);
  const [seed, length] = [drawSeed(step), chance.size(1, MAX_BYTES)];
  if (!chance.isTrue(POST_SHARE)) {
    const target = bytesTarget(seed, length, chance.pick(['length', 'chunked']));
    return { id, seed, length, method: 'GET', target, fields };
  }
  const body = { seed, length, framing: 'length', pieceBytes: length, pauseMs: 0 } as const;
  return { id, seed, length, method: 'POST', target: '/echo', fields, body };
}

export function bytesOf({ id, seed, length, ...request }: Piped): Buffer {
  const body = request.body ? payload(seed, length) : Buffer.alloc(0);
  return Buffer.concat([Buffer.from(formatHead(request, id)), body]);
}

export async function readResponseTo(
  step: Step,
  connection: Connection,
  request: Piped,
): Promise<void> {
  const { id, seed, length, method } = request;
  const sink = payloadSink(seed);
  const response = await readResponse(connection, {
    method,
    isHttp10: false,
    sinkFor: ({ status }) => (status === 200 ? sink : () => undefined),
  });
  step.around.ledger.recordResponse(connection.machine.name, id, response.status);
  checkNotSentElsewhere(response);
  checkStatus(response, 200);
  checkId(response, id);
  checkLength(response.bytes, length);
}

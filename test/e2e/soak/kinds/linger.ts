/** Connections without traffic for a while: idle ones, and readers that have stopped. */
import { bytesTarget, checkLength, drawSeed, emptyChunkedBody, payloadSink } from '../bodies.ts';
import { call } from '../call.ts';
import { checkStatus, sendRequest } from '../send-request.ts';
import { Left } from '../failure.ts';
import { checkNotSentElsewhere } from '../replays.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import { Connection } from '../wire/connection.ts';

/** A server may close a client that has never sent anything earlier. */
const MAX_IDLE_MS = 5_000;
const MIN_STALL_MS = 2_000;
const SMALL_BYTES = 1_000;

/** A connection that was idle works as before. */
export async function idle(step: Step): Promise<void> {
  const { chance, around } = step;
  const machine = step.anyMachine();
  step.touch(machine, undefined);
  const connection = await Connection.open(machine);
  try {
    for (const maxMs of [MAX_IDLE_MS, around.longestStayMs]) {
      await step.stay(chance.integer(1, maxMs));
      const [seed, length] = [drawSeed(step), chance.size(1, SMALL_BYTES)];
      const request = {
        method: 'GET',
        target: bytesTarget(seed, length, 'length'),
        sink: payloadSink(seed),
      };
      const id = step.beginRequest(machine, undefined);
      const response = await sendRequest(step, connection, request, id);
      checkNotSentElsewhere(response);
      checkStatus(response, 200);
      checkLength(response.bytes, length);
    }
  } finally {
    connection.destroy();
  }
}

/** Requests an endless body, and does not read it. The app reports how much it could send. */
export async function stall(step: Step): Promise<void> {
  const { chance, around } = step;
  const way = await chooseWay(step);
  const isForwarded = way.owner !== undefined;
  await call(step, way, {
    method: isForwarded ? 'POST' : 'GET',
    target: `/endless?seed=${drawSeed(step)}`,
    ...(isForwarded && { body: emptyChunkedBody() }),
    sink: async () => {
      await step.stay(chance.integer(MIN_STALL_MS, around.longestStayMs));
      throw new Left();
    },
  });
}

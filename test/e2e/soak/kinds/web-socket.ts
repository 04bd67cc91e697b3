/**
 * WebSockets that stay open for a while: every message is echoed unchanged, and either side may
 * close.
 */
import { drawSeed } from '../bodies.ts';
import { Left, lost, wrong } from '../failure.ts';
import { payload } from '../payload.ts';
import { REQUESTED_CLOSE_CODE, CLOSE_PLEASE } from '../processes/messages.ts';
import { chooseWay } from '../sessions.ts';
import type { Step } from '../step.ts';
import { openWebSocket, type Message, type OpenWebSocket } from '../wire/web-socket.ts';

const MAX_MESSAGES = 30;
const MAX_BURST = 5;
const MAX_BYTES = 60_000;
const NORMAL_CLOSE_CODE = 1000;
const BROKEN_CODE = 1006;

export async function useWebSocket(step: Step): Promise<void> {
  const { chance, around } = step;
  const socket = await openWebSocket(step, await chooseWay(step));
  try {
    const bursts = chance.integer(1, MAX_MESSAGES);
    const pauseMs = Math.ceil(chance.integer(1, around.longestStayMs) / bursts);
    for (let i = 0; i < bursts && !step.isOver.aborted; i += 1) {
      await echo(step, socket);
      await step.stay(pauseMs);
    }
    await leave(step, socket);
  } finally {
    socket.terminate();
  }
}

async function echo(step: Step, socket: OpenWebSocket): Promise<void> {
  const sent = Array.from({ length: step.chance.integer(1, MAX_BURST) }, () => drawMessage(step));
  for (const message of sent) socket.send(message);
  for (const message of sent) {
    const { bytes, isBinary } = await socket.next();
    const isSame = isBinary === message.isBinary && bytes.equals(message.bytes);
    if (!isSame) throw wrong(`a message of ${message.bytes.length} bytes came back changed`);
  }
}

function drawMessage(step: Step): Message {
  const bytes = payload(drawSeed(step), step.chance.size(1, MAX_BYTES));
  if (step.chance.isTrue(0.5)) return { bytes, isBinary: true };
  return { bytes: Buffer.from(bytes.toString('base64')), isBinary: false };
}

async function leave(step: Step, socket: OpenWebSocket): Promise<void> {
  switch (step.chance.pick(['close', 'be closed', 'vanish'] as const)) {
    case 'close':
      socket.close();
      checkCode(await socket.closed(), NORMAL_CLOSE_CODE);
      break;
    case 'be closed':
      socket.send({ bytes: Buffer.from(CLOSE_PLEASE), isBinary: false });
      checkCode(await socket.closed(), REQUESTED_CLOSE_CODE);
      break;
    case 'vanish':
      throw new Left();
  }
}

function checkCode(code: number, expected: number): void {
  if (code === expected) return;
  const what = `the WebSocket was closed with ${code} in place of ${expected}`;
  throw code === BROKEN_CODE ? lost(what) : wrong(what);
}

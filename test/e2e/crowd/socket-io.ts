/**
 * A client of Socket.IO that polls (Engine.IO 4), as light as it can be: it polls only while it waits
 * for something, and so never twice at once.
 */
import { z } from 'zod';
import type { Target } from '../support/target.ts';
import {
  ask,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  type Answer,
  type Client,
  type Outcome,
} from './outcome.ts';

/** Between the packets of one poll. */
const SEPARATOR = '\x1e';
const PING = '2';
const PONG = '3';
const CONNECT = '40';

const Opened = z.object({ sid: z.string() });
const UnknownSession = z.object({ code: z.literal(1), message: z.literal('Session ID unknown') });

export function createSocketIoClient({ url }: Target): Client {
  let sid = '';
  let calls = 0;

  function request(init: RequestInit): Promise<Answer | Outcome> {
    const named = sid === '' ? '' : `&sid=${sid}`;
    return ask(`${url}/socket.io/?EIO=4&transport=polling${named}`, init);
  }

  async function open(): Promise<Outcome> {
    sid = '';
    const answer = await request({});
    if (isOutcome(answer)) return answer;
    if (answer.status !== 200) return outcomeOf(answer);
    const opened = Opened.safeParse(jsonOf(answer.body.slice(1)));
    if (!opened.success) return { kind: 'wrong', what: `not opened: ${answer.body}` };
    ({ sid } = opened.data);
    const connected = await exchange(CONNECT, '40{');
    return typeof connected === 'string' ? call() : connected;
  }

  async function call(): Promise<Outcome> {
    const id = (calls += 1);
    const acknowledgement = `43${id}[`;
    const packet = await exchange(`42${id}["count"]`, acknowledgement);
    if (typeof packet !== 'string') return packet;
    return countedIn(sid, packet.slice(acknowledgement.length, -1));
  }

  /** Sends a packet, and polls for the one that answers it. */
  async function exchange(packet: string, expected: string): Promise<string | Outcome> {
    const failure = await send(packet);
    if (failure) return failure;
    for (;;) {
      const answer = await request({});
      if (isOutcome(answer)) return answer;
      if (answer.status !== 200) return refusalOf(answer);
      const packets = answer.body.split(SEPARATOR);
      if (packets.includes(PING)) {
        const unheard = await send(PONG);
        if (unheard) return unheard;
      }
      const found = packets.find((received) => received.startsWith(expected));
      if (found !== undefined) return found;
    }
  }

  async function send(packet: string): Promise<Outcome | undefined> {
    const answer = await request({ method: 'POST', body: packet });
    if (isOutcome(answer)) return answer;
    return answer.status === 200 ? undefined : refusalOf(answer);
  }

  function refusalOf(answer: Answer): Outcome {
    const isGone = answer.status === 400 && UnknownSession.safeParse(jsonOf(answer.body)).success;
    return isGone ? { kind: 'gone', session: sid } : outcomeOf(answer);
  }

  return { open, call, leave: () => undefined };
}

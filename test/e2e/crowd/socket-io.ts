/**
 * A minimal polling client of Socket.IO (Engine.IO 4): it polls only while it waits for a packet,
 * and so never twice at once.
 */
import { z } from 'zod';
import type { Target } from '../support/target.ts';
import {
  sendRequest,
  countedIn,
  isOutcome,
  jsonOf,
  outcomeOf,
  type HttpResponse,
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

  function request(init: RequestInit): Promise<HttpResponse | Outcome> {
    const named = sid === '' ? '' : `&sid=${sid}`;
    return sendRequest(`${url}/socket.io/?EIO=4&transport=polling${named}`, init);
  }

  async function open(): Promise<Outcome> {
    sid = '';
    const response = await request({});
    if (isOutcome(response)) return response;
    if (response.status !== 200) return outcomeOf(response);
    const opened = Opened.safeParse(jsonOf(response.body.slice(1)));
    if (!opened.success) return { kind: 'wrong', what: `not opened: ${response.body}` };
    ({ sid } = opened.data);
    const connected = await sendAndPoll(CONNECT, '40{');
    return typeof connected === 'string' ? call() : connected;
  }

  async function call(): Promise<Outcome> {
    const id = (calls += 1);
    const acknowledgement = `43${id}[`;
    const packet = await sendAndPoll(`42${id}["count"]`, acknowledgement);
    if (typeof packet !== 'string') return packet;
    return countedIn(sid, packet.slice(acknowledgement.length, -1));
  }

  /** Sends a packet, and polls for its response. */
  async function sendAndPoll(packet: string, expected: string): Promise<string | Outcome> {
    const failure = await send(packet);
    if (failure) return failure;
    for (;;) {
      const response = await request({});
      if (isOutcome(response)) return response;
      if (response.status !== 200) return rejectionOf(response);
      const packets = response.body.split(SEPARATOR);
      if (packets.includes(PING)) {
        const unread = await send(PONG);
        if (unread) return unread;
      }
      const found = packets.find((received) => received.startsWith(expected));
      if (found !== undefined) return found;
    }
  }

  async function send(packet: string): Promise<Outcome | undefined> {
    const response = await request({ method: 'POST', body: packet });
    if (isOutcome(response)) return response;
    return response.status === 200 ? undefined : rejectionOf(response);
  }

  function rejectionOf(response: HttpResponse): Outcome {
    const isGone =
      response.status === 400 && UnknownSession.safeParse(jsonOf(response.body)).success;
    return isGone ? { kind: 'gone', session: sid } : outcomeOf(response);
  }

  return { open, call, leave: () => undefined };
}

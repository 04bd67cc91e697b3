/**
 * JSONP polling of Engine.IO 3 by hand. It polls only for a response, so that no poll is cut by a
 * disturbance: the session itself must outlive it, which no real client can show.
 */
import assert from 'node:assert/strict';
import { createContext, runInContext } from 'node:vm';
import { z } from 'zod';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';
import { callAround, createProductSession, type ProductSession } from './product-session.ts';

/** Each responds in another form, see `../servers/socket-io-v2.ts`. */
const PREFIXES = ['', '/jsonp-1', '/jsonp-2', '/jsonp-3', '/jsonp-4'];
const OpenPacket = z.object({ sid: z.string() });
/** Engine.IO's message, then Socket.IO's event and its answer, with the number 0. */
const CALL = '420["count"]';
const ANSWER = '430';

export async function runEngineIo3Jsonp(
  target: Target,
  midway: () => Promise<void>,
): Promise<void> {
  const sessions: ProductSession[] = [];
  for (const prefix of PREFIXES) {
    sessions.push(await openPolling(`${target.url}${prefix}/socket.io-v2/`));
  }
  await callAround(sessions, midway);
}

async function openPolling(address: string): Promise<ProductSession> {
  const handshake = new URL(`${address}?EIO=3&transport=polling&b64=1&j=0`);
  const [open = ''] = await poll(handshake);
  assert.equal(open[0], '0', 'the first packet opens the session');
  const url = new URL(handshake);
  url.searchParams.set('sid', OpenPacket.parse(JSON.parse(open.slice(1))).sid);
  const opened = await count(url);
  return createProductSession(address, opened, () => count(url));
}

async function count(url: URL): Promise<Counted> {
  const response = await retryingFetch(url, {
    method: 'POST',
    body: new URLSearchParams({ d: `${CALL.length}:${CALL}` }),
  });
  assert.equal(response.status, 200, await response.text());
  for (;;) {
    const answer = (await poll(url)).find((packet) => packet.startsWith(ANSWER));
    if (answer === undefined) continue;
    const [counted] = z.tuple([Counted]).parse(JSON.parse(answer.slice(ANSWER.length)));
    return counted;
  }
}

async function poll(url: URL): Promise<readonly string[]> {
  const response = await retryingFetch(url);
  const script = await response.text();
  assert.equal(response.status, 200, script);
  let payload = '';
  const receive = (text: string): void => {
    payload = text;
  };
  runInContext(script, createContext({ ___eio: [receive] }));
  return packetsOf(payload);
}

/** Each packet has its length before it. */
function packetsOf(payload: string): readonly string[] {
  const packets: string[] = [];
  for (let rest = payload; rest !== '';) {
    const [head = '', digits = ''] = /^(\d+):/.exec(rest) ?? [];
    const end = head.length + Number(digits);
    assert.ok(end > 0, `a payload, not ${rest}`);
    packets.push(rest.slice(head.length, end));
    rest = rest.slice(end);
  }
  return packets;
}

/** A WHIP client by `fetch`: it offers, sends candidates one by one, and ends the session. */
import assert from 'node:assert/strict';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';
import { placeIn } from './here-headers.ts';
import { callAround, createProductSession, type ProductSession } from './product-session.ts';

/** Each writes the URL of its sessions in another form. */
const ENDPOINTS = [
  '/whip/relative',
  '/whip/path',
  '/whip/absolute',
  '/whip/query',
  '/whep/absolute',
];
const OFFER = [
  'v=0',
  'o=- 5228595038118931041 2 IN IP4 127.0.0.1',
  's=-',
  't=0 0',
  'm=audio 9 UDP/TLS/RTP/SAVPF 111',
  'c=IN IP4 0.0.0.0',
  'a=mid:0',
  'a=ice-ufrag:EsAw',
  'a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y',
  'a=sendonly',
  '',
].join('\r\n');
const CANDIDATE = [
  'a=ice-ufrag:EsAw',
  'a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y',
  'm=audio 9 UDP/TLS/RTP/SAVPF 111',
  'a=mid:0',
  'a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw',
  '',
].join('\r\n');

export async function runWhip(target: Target, midway: () => Promise<void>): Promise<void> {
  const sessions = await Promise.all(ENDPOINTS.map((endpoint) => openWhip(target.url + endpoint)));
  await callAround(sessions, midway);
  for (const session of sessions) await session.end();
}

interface WhipSession extends ProductSession {
  end(): Promise<void>;
}

async function openWhip(endpoint: string): Promise<WhipSession> {
  const opened = await retryingFetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/sdp' },
    body: OFFER,
  });
  assert.equal(opened.status, 201, endpoint);
  assert.match(await opened.text(), /a=recvonly/);
  const url = new URL(opened.headers.get('location') ?? '', endpoint);
  const send = async (init: RequestInit): Promise<Response> => {
    const response = await retryingFetch(url, init);
    assert.equal(
      response.headers.get('x-url'),
      opened.headers.get('x-url'),
      `${endpoint}: the app gets the URL as it wrote it`,
    );
    return response;
  };
  const session = createProductSession(endpoint, { ...placeOf(opened), count: 0 }, async () => {
    const response = await send({
      method: 'PATCH',
      headers: {
        'content-type': 'application/trickle-ice-sdpfrag',
        'if-match': opened.headers.get('etag') ?? '',
      },
      body: CANDIDATE,
    });
    assert.equal(response.status, 204, endpoint);
    return Counted.parse({
      ...placeOf(response),
      count: Number(response.headers.get('x-count')),
    });
  });
  return {
    ...session,
    end: async () => {
      const ended = await send({ method: 'DELETE' });
      assert.equal(ended.status, 200, endpoint);
      assert.deepEqual(placeOf(ended), placeOf(opened));
      assert.equal((await retryingFetch(url, { method: 'DELETE' })).status, 404, endpoint);
    },
  };
}

function placeOf({ headers }: Response): ReturnType<typeof placeIn> {
  return placeIn((name) => headers.get(name));
}

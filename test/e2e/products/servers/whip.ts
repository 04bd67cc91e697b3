/**
 * A small server of WHIP (RFC 9725), and of WHEP, which differs only in the direction of the media.
 * There are no media: each PATCH is counted. The URL of a session has one of several forms.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { respondJson, HERE, urlOf, type Door } from '../../apps/door.ts';
import { noteEnded, noteOpened, noteRequest } from '../../apps/journal.ts';
import { nameHere } from './here-headers.ts';

const SDP = 'application/sdp';
const TRICKLE = 'application/trickle-ice-sdpfrag';
const RESOURCE = '/whip/resource/';
const RESOURCE_BY_QUERY = '/whip/resource';

interface WhipSession {
  /** The path with the query, as the app wrote it. */
  readonly url: string;
  readonly etag: string;
  count: number;
}

/** By the endpoint that was posted to; how it writes the URL of the new session. */
const LOCATIONS: Readonly<Record<string, (url: string, host: string) => string>> = {
  '/whip/relative': (url) => url.replace(/^\/whip\//, ''),
  '/whip/path': (url) => url,
  '/whip/absolute': (url, host) => `http://${host}${url}`,
  '/whip/query': (url) => url,
  '/whep/absolute': (url, host) => `http://${host}${url}`,
};

export function createWhipDoor(): Door {
  const sessions = new Map<string, WhipSession>();

  async function open(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = urlOf(request);
    const locationOf = LOCATIONS[pathname];
    const offer = await text(request);
    if (!locationOf || request.headers['content-type'] !== SDP || !offer.startsWith('v=0')) {
      respondJson(response, 400, { ...HERE, error: 'not an offer' });
      return;
    }
    const id = randomUUID();
    const isByQuery = pathname === '/whip/query';
    const url = isByQuery ? `${RESOURCE_BY_QUERY}?id=${id}&role=publisher` : RESOURCE + id;
    const session = { url, etag: `"${randomUUID()}"`, count: 0 };
    sessions.set(id, session);
    noteOpened(id);
    response.setHeader('x-url', url);
    response.writeHead(201, {
      'content-type': SDP,
      location: locationOf(url, request.headers.host ?? ''),
      etag: session.etag,
      link: '<stun:stun.example.net>; rel="ice-server"',
    });
    response.end(offer.replace('a=sendonly', 'a=recvonly'));
  }

  function use(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = urlOf(request);
    const id = searchParams.get('id') ?? pathname.slice(RESOURCE.length);
    const session = sessions.get(id);
    noteRequest(request, id, session !== undefined);
    response.setHeader('x-url', request.url ?? '');
    if (!session) {
      respondJson(response, 404, { ...HERE, error: 'no such session' });
    } else if (request.method === 'DELETE') {
      sessions.delete(id);
      noteEnded(id);
      response.writeHead(200).end();
    } else {
      patch(request, response, session);
    }
  }

  return {
    paths: ['/whip/', '/whep/'],
    handle: async (request, response) => {
      nameHere(response);
      if (request.method === 'POST') await open(request, response);
      else use(request, response);
    },
  };
}

/** RFC 9725 §4.3.1: candidates belong to one ICE session, which the entity tag names. */
function patch(request: IncomingMessage, response: ServerResponse, session: WhipSession): void {
  if (request.method !== 'PATCH' || request.headers['content-type'] !== TRICKLE) {
    response.writeHead(405).end();
  } else if (request.headers['if-match'] !== session.etag) {
    response.writeHead(412).end();
  } else {
    session.count += 1;
    response.setHeader('x-count', session.count);
    response.writeHead(204).end();
  }
}

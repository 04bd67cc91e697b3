/** A small server whose session is a cookie: it counts the visits in its memory. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { respondJson, HERE, type Door } from '../../apps/door.ts';
import { noteOpened, noteRequest } from '../../apps/journal.ts';

interface CookieProduct {
  /** Ends with a slash; the cookie belongs to it. */
  readonly path: string;
  readonly cookie: string;
  readonly attributes: string;
  readonly mintId: () => string;
  /** Whether an unknown id opens an empty session under that id, or one under a new id. */
  readonly adoptsUnknownIds: boolean;
}

export function createSessionCookieDoor(product: CookieProduct): Door {
  const visits = new Map<string, number>();

  function sessionOf(request: IncomingMessage, response: ServerResponse): string {
    const sent = findCookie(request, product.cookie);
    if (sent !== undefined) noteRequest(request, sent, visits.has(sent));
    if (sent !== undefined && (product.adoptsUnknownIds || visits.has(sent))) return sent;
    const id = product.mintId();
    noteOpened(id);
    response.setHeader(
      'set-cookie',
      `${product.cookie}=${id}; path=${product.path}; ${product.attributes}`,
    );
    return id;
  }

  return {
    paths: [product.path],
    handle: (request, response) => {
      const id = sessionOf(request, response);
      const count = (visits.get(id) ?? 0) + 1;
      visits.set(id, count);
      respondJson(response, 200, { ...HERE, count });
    },
  };
}

export function findCookie(request: IncomingMessage, name: string): string | undefined {
  const pairs = (request.headers.cookie ?? '').split('; ');
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** A browser app without any session id: it counts visits by the visitor's name. */
import { respondJson, HERE, urlOf, type Door } from './door.ts';

export function createVisitsDoor(): Door {
  const visits = new Map<string, number>();
  return {
    paths: ['/visits'],
    handle: (request, response) => {
      const name = urlOf(request).searchParams.get('name') ?? '';
      const count = (visits.get(name) ?? 0) + 1;
      visits.set(name, count);
      respondJson(response, 200, { ...HERE, count, cookie: request.headers.cookie });
    },
  };
}

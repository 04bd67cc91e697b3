/**
 * SignalR (ASP.NET Core, "SignalR Transport Protocols"): a POST of `.../negotiate` mints an id, which
 * the client names as the query's `id` from then on, whatever its transport; a DELETE of long polling
 * ends it. The answer may send the client to another server instead, which teaches nothing.
 */
import { asObject, asText, parseJson } from '../json.ts';
import type { BodyDiscovery, Protocol } from './protocol.ts';

const negotiation: BodyDiscovery = {
  from: 'body',
  mayAnswer: ({ method, target }) =>
    method === 'POST' && /^[^?#]*\/negotiate\/?(?:[?#]|$)/.test(target),
  contentTypes: ['application/json', 'text/plain'],
  begin: /[\s{]/,
  read: readConnectionToken,
};

export const SIGNALR: Protocol = {
  name: 'signalr',
  idLocations: [{ in: 'query', name: 'id', readsHint: false }],
  mintedBy: 'app',
  discoveries: [negotiation],
  errorForm: 'problem',
  endsBy: 'delete',
  isMcp: false,
};

/** In version 0 the public id is the only one; from 1 on the client names the token. */
function readConnectionToken(body: string): string | undefined {
  const answer = asObject(parseJson(body));
  if (!answer || 'url' in answer) return undefined;
  const isFirstVersion = !Number(answer.negotiateVersion ?? 0);
  return asText(isFirstVersion ? answer.connectionId : answer.connectionToken);
}

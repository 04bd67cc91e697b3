/**
 * SignalR (ASP.NET Core, "SignalR Transport Protocols"): a POST of `.../negotiate` mints an id, and the client
 * names it as `id` in the query from then on, whatever its transport. A DELETE of long polling ends the
 * session. A response that sends the client to another server reveals no id.
 */
import { JSON_OR_TEXT_TYPE } from './heads.ts';
import { asObject, asText, parseJson } from '../json.ts';
import type { BodyDiscovery, Protocol } from './protocol.ts';

const negotiation: BodyDiscovery = {
  from: 'body',
  mark: '/negotiate',
  mayRevealId: ({ method, target }) =>
    method === 'POST' && /^[^?#]*\/negotiate\/?(?:[?#]|$)/.test(target),
  contentType: JSON_OR_TEXT_TYPE,
  begin: /[\s{]/,
  read: readConnectionToken,
};

export const SIGNALR: Protocol = {
  name: 'signalr',
  idLocations: [{ in: 'query', name: 'id', mayCarryHint: false }],
  mintedBy: 'app',
  discoveries: [negotiation],
  errorForm: 'problem',
  endsBy: 'delete',
  isMcp: false,
};

/** 128 random bits in base64url, as ASP.NET Core mints its ids (`ConnectionManager`, "MakeNewConnectionId"). */
const ID_SHAPE = /[?&]id=[\w-]{22}(?:&|$)/;

/** For `auto`: `id` is the name of many other things. */
export const SIGNALR_SHAPE: Protocol = {
  ...SIGNALR,
  idLocations: [
    { in: 'query', name: 'id', mayCarryHint: false, when: ({ target }) => ID_SHAPE.test(target) },
  ],
};

/** In version 0 the public id is the only one; from 1 on the client names the token. */
export function readConnectionToken(body: string): string | undefined {
  const response = asObject(parseJson(body));
  if (!response || 'url' in response) return undefined;
  const isFirstVersion = !Number(response.negotiateVersion ?? 0);
  return asText(isFirstVersion ? response.connectionId : response.connectionToken);
}

/**
 * Socket.IO, which is Engine.IO underneath: the app mints an id in the first packet of a connection, and the
 * client names it in the query of later requests. Over long polling that packet is the body of a response,
 * which reveals the id. A connection that begins as a WebSocket is the whole session and needs no id. The id
 * can't carry an owner hint: the app would not find it in any message of its own.
 */
import { asObject, asText, parseJson } from '../json.ts';
import type { BodyDiscovery, Protocol } from './protocol.ts';
import { findQuery, findQueryValue } from './query.ts';
import { type RequestHead, textAt } from './heads.ts';

/**
 * The first packet of a payload: alone or with others behind it (Engine.IO 4: separated by U+001E), or
 * with its length before it, in digits (Engine.IO 3) or in bytes (Engine.IO 3 with binary data).
 */
const OPEN_PACKET = /^(?:\d+:|\x00[\x00-\x09]+\xff)?0(\{[^{}]*\})/;
/** The same in a function call (JSONP). */
const JSONP = /^___eio\[\d+\]\((?:(".*")|'(.*)')\);?\s*$/s;

const POLLING = 'polling';

const firstPollingResponse: BodyDiscovery = {
  from: 'body',
  // The value is compared as it is.
  mark: POLLING,
  mayRevealId: isHandshakeByPolling,
  contentType: /text\/plain|application\/octet-stream|(?:text|application)\/javascript/i,
  begin: /[\d\x00_]/,
  read: readSid,
};

export const SOCKET_IO: Protocol = {
  name: 'socket.io',
  idLocations: [{ in: 'query', name: 'sid', mayCarryHint: false }],
  mintedBy: 'app',
  discoveries: [firstPollingResponse],
  errorForm: 'socket.io',
  endsBy: 'expiry',
  isMcp: false,
};

/** For `auto`: every client names its version of Engine.IO. */
export const SOCKET_IO_SHAPE: Protocol = {
  ...SOCKET_IO,
  idLocations: [
    {
      in: 'query',
      name: 'sid',
      mayCarryHint: false,
      when: ({ target }) => /[?&]EIO=\d/.test(target),
    },
  ],
};

function isHandshakeByPolling({ method, target }: RequestHead): boolean {
  if (method !== 'GET') return false;
  const query = findQuery(target);
  const transport = query && findQueryValue(target, 'transport', query);
  const version = query && findQueryValue(target, 'EIO', query);
  return version !== undefined && transport !== undefined && textAt(target, transport) === POLLING;
}

export function readSid(body: string): string | undefined {
  const call = JSONP.exec(body);
  const payload = call ? argumentOf(call) : body;
  const packet = payload === undefined ? undefined : OPEN_PACKET.exec(payload)?.[1];
  return packet === undefined ? undefined : asText(asObject(parseJson(packet))?.sid);
}

/** A string in either quotes. Within single ones, a double quote may stand as it is. */
function argumentOf([, quoted, within = '']: RegExpExecArray): string | undefined {
  const json =
    quoted ??
    `"${within.replace(/\\.|"/gs, (text) => {
      if (text === '"') return '\\"';
      return text === "\\'" ? "'" : text;
    })}"`;
  return asText(parseJson(json));
}

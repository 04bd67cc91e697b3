/** Tells from a response whether the app had the session, and what it says if it had not. */
import { asObject, asText, parseJson } from '../json.ts';
import { splitOwnerHint } from '../protocols/owner-hint.ts';
import { parseTypedSessionId, sessionKeyOf } from '../session.ts';
import type { Exchange, NoResponse } from './http-client.ts';
import type { Loss, NotOpened } from './probe.ts';

/** A client sees no more in a response than its status, unless the protocol says more in the body. */
export function lossOf(
  exchange: Exchange,
  id: Secrets,
  unknownSessionStatus = 404,
): Loss | undefined {
  if (exchange.kind === 'no-response')
    return { how: 'no-response', why: describeNoResponse(exchange) };
  const { status } = exchange;
  if (status < 400) return undefined;
  const why = describeResponse(exchange, id);
  if (status === unknownSessionStatus) return { how: 'unknown-session', why };
  return { how: status >= 502 && status <= 504 ? 'unavailable' : 'error', why };
}

const NO_RESPONSE: Readonly<Record<NoResponse['why'], string>> = {
  timeout: 'no response in time',
  'no-connection': 'no connection',
  broken: 'the connection broke',
};

function describeNoResponse({ why, code }: NoResponse): string {
  return why === 'timeout' ? NO_RESPONSE.timeout : `${NO_RESPONSE[why]} (${code})`;
}

/** Why there is no session: a sentence. */
export function whyNotOpened(opening: NotOpened): string {
  switch (opening.kind) {
    case 'refused':
      return opening.why;
    case 'stateless':
      return opening.what;
    case 'websocket':
      return 'it takes a WebSocket, and a connection is a whole session';
    case 'other':
      return describeExchange(opening.exchange);
  }
}

/** `404 Session not found` */
export function describeExchange(exchange: Exchange, id: Secrets = ''): string {
  return exchange.kind === 'no-response'
    ? describeNoResponse(exchange)
    : describeResponse(exchange, id);
}

function describeResponse({ status, body }: { status: number; body: string }, id: Secrets): string {
  // What a page says is of no use here.
  if (status < 400) return String(status);
  return `${status} ${shown(messageIn(body), id)}`.trimEnd();
}

/** The message of a JSON error in one of the usual forms, or the beginning of a text that is no page. */
function messageIn(body: string): string {
  const json = asObject(parseJson(body));
  if (!json) return /^\s*</.test(body) ? '' : body;
  const error = asObject(json.error);
  const texts = [error?.message, json.message, json.title, json.detail, json.error];
  return texts.map(asText).find((text) => text !== undefined) ?? '';
}

const MAX_SHOWN_CHARACTERS = 80;

/** The id of a session, or all that may be one: no text for people has it. */
type Secrets = string | readonly string[];

/** One line without the id, and without what a terminal would obey. */
export function shown(text: string, id: Secrets): string {
  const masked = [id]
    .flat()
    .flatMap((secret) => [secret, splitOwnerHint(secret)?.id ?? ''])
    .filter((secret) => secret !== '')
    .reduce((result, secret) => result.replaceAll(secret, '(id)'), text);
  const line = masked.replace(/[\x00-\x1f\x7f-\x9f\s]+/g, ' ').trim();
  return line.length > MAX_SHOWN_CHARACTERS ? `${line.slice(0, MAX_SHOWN_CHARACTERS)}...` : line;
}

const SHOWN_KEY_LENGTH = 8;

/** As the sidecar's log has it: without its own owner hint. */
export function shownKeyOf(id: string): string {
  const parsed = splitOwnerHint(id)?.id ?? parseTypedSessionId(id);
  return parsed === undefined ? '(none)' : sessionKeyOf(parsed).slice(0, SHOWN_KEY_LENGTH);
}

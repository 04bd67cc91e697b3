/** Generates valid responses with every kind of framing, for later mutation. */
import type { Chance } from './chance.ts';
import { framedBody, someOf, type FramedBody } from './request-text.ts';

const STATUS_LINES: readonly string[] = [
  ...[
    'HTTP/1.1 200 OK',
    'HTTP/1.1 200 OK',
    'HTTP/1.1 201 Created',
    'HTTP/1.1 200',
    'HTTP/1.1 200 ',
  ],
  ...[
    'HTTP/1.0 200 OK',
    'HTTP/1.1 204 No Content',
    'HTTP/1.1 304 Not Modified',
    'HTTP/1.1 404 \xe9',
  ],
  ...['HTTP/1.1 205 Reset Content', 'HTTP/1.1 500 a\tb', 'HTTP/1.1 999 x'],
];
const INTERIM: readonly string[] = [
  ...['HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'],
  ...['HTTP/1.1 102 Processing\r\n\r\n', 'HTTP/1.1 199 x\r\nContent-Length: 3\r\n\r\n'],
];
const FIELDS: readonly string[] = [
  ...[
    'Content-Type: text/plain',
    'Date: Thu, 01 Jan 1970 00:00:00 GMT',
    'Set-Cookie: a=b; Path=/',
    'X-A: 1',
  ],
  ...[
    'X-B:',
    'X-C:no blank',
    'X-D: \t blanks \t',
    'X-E: \xe9',
    'X-F : blank before',
    'X-G\t: tab before',
  ],
  ...['Mcp-Session-Id: sid', 'Location: /x', 'Keep-Alive: timeout=5', 'Connection: keep-alive'],
  ...[
    'Connection: close',
    'Connection: X-A',
    'connection: keep-alive, x-f',
    'Upgrade: h2c',
    'Trailer: X-T',
  ],
];

/** Interim responses and a final one, sometimes followed by more bytes. */
export function responseText(chance: Chance): string {
  let text = '';
  while (chance.happens(0.15)) text += chance.pick(INTERIM);
  if (chance.happens(0.03)) return `${text}${switching(chance)}`;
  text += finalResponse(chance);
  return chance.happens(0.1) ? text + finalResponse(chance) : text;
}

function switching(chance: Chance): string {
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n${'y'.repeat(chance.below(5))}`;
}

function finalResponse(chance: Chance): string {
  const { field, body } = bodyOf(chance);
  const lines = [chance.pick(STATUS_LINES), ...someOf(FIELDS, 4, chance), ...field];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

function bodyOf(chance: Chance): FramedBody {
  if (chance.happens(0.2)) return { field: [], body: 'y'.repeat(chance.below(20)) };
  const framed = framedBody(chance, 'y');
  // A response to HEAD, or a 304, has the length of the omitted body.
  return chance.happens(0.1) ? { field: framed.field, body: '' } : framed;
}

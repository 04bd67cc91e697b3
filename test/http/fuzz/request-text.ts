/** Generates valid requests with every kind of framing, for later mutation. */
import type { Chance } from './chance.ts';

const METHODS: readonly string[] = [
  ...['GET', 'GET', 'GET', 'POST', 'POST', 'PUT', 'HEAD', 'DELETE', 'PATCH', 'OPTIONS'],
  ...['M-SEARCH', 'PURGE', 'BREW', 'get'],
];
const TARGETS: readonly string[] = [
  ...[
    '/',
    '/a',
    '/a?session_id=abc&x=1',
    '/a%20b/../c',
    '/?',
    '/a;b=c',
    "/!$&'()*+,;=:@~_-.",
    '/é',
  ],
  ...['/a|b^c`{}', '//h/x', 'http://h/', 'http://h', 'HTTP://H:80/x?y', 'https://h:443?x', '/x:80'],
];
const FIELDS: readonly string[] = [
  ...['Accept: */*', 'accept-encoding: gzip, br', 'User-Agent: x/1 (y; z)', 'Cookie: a=b; c="d"'],
  ...[
    'X-A: 1',
    'X-A: 2',
    'X-B:',
    'X-C:no blank',
    'X-D: \t blanks \t',
    'X-E: \xe9\x80',
    "x!#$%&'*+.^_`|~: 1",
  ],
  ...[
    'Mcp-Session-Id: sid-1',
    'Content-Type: text/plain',
    'X-Forwarded-For: 1.2.3.4',
    'Via: 1.0 a, 1.1 b',
  ],
  ...[
    'Connection: keep-alive',
    'Connection: close',
    'connection: X-A, keep-alive',
    'Connection: , x-b ,',
  ],
  ...['Keep-Alive: timeout=5', 'Proxy-Connection: keep-alive', 'TE: trailers', 'Trailer: X-T'],
  ...[
    'Connection: Upgrade\r\nUpgrade: websocket',
    'Upgrade: h2c',
    'Connection: upgrade\r\nUpgrade: h2c, foo',
  ],
  ...['Expect: 100-continue', 'Expect: 100-Continue'],
];
const HOSTS: readonly string[] = ['h', 'h:80', 'H', 'example.test', '[::1]:8080', '127.0.0.1:1'];
const TRAILERS: readonly string[] = [
  ...[
    'X-T: 1',
    'X-T:',
    'x-u: \xe9',
    'Content-Length: 5',
    'Transfer-Encoding: chunked',
    'Cookie: a=b',
  ],
  ...[
    'Connection: close',
    'Host: z',
    'X-Forwarded-For: 1',
    'Mcp-Session-Id: x',
    'Upgrade: websocket',
  ],
];
const EXTENSIONS: readonly string[] = ['', '', '', ';a', ';a=b', ';a="b c"', ';a="\\"";b'];

/** One request, or several pipelined ones. */
export function requestText(chance: Chance): string {
  let text = '';
  const count = chance.between(1, 3);
  for (let i = 0; i < count; i += 1) text += oneRequest(chance);
  return text;
}

function oneRequest(chance: Chance): string {
  const emptyLines = chance.happens(0.05) ? '\r\n'.repeat(chance.between(1, 3)) : '';
  const version = chance.happens(0.1) ? 'HTTP/1.0' : 'HTTP/1.1';
  const line = `${chance.pick(METHODS)} ${chance.pick(TARGETS)} ${version}`;
  const { field, body } = chance.happens(0.5) ? framedBody(chance, 'x') : { field: [], body: '' };
  const fields = [`Host: ${chance.pick(HOSTS)}`, ...someOf(FIELDS, 4, chance), ...field];
  if (chance.happens(0.2)) fields.push(...fields.splice(0, 1));
  return `${emptyLines}${[line, ...fields].join('\r\n')}\r\n\r\n${body}`;
}

export interface FramedBody {
  readonly field: readonly string[];
  readonly body: string;
}

/** A body with Content-Length, or in chunks. */
export function framedBody(chance: Chance, filler: string): FramedBody {
  const data = filler.repeat(chance.below(30));
  if (chance.happens(0.5)) return { field: [`Content-Length: ${data.length}`], body: data };
  let body = '';
  for (let at = 0; at < data.length;) {
    const end = Math.min(data.length, at + chance.between(1, 12));
    const size = (end - at).toString(16);
    body += `${chance.pick(['', '', '0', '00'])}${size}${chance.pick(EXTENSIONS)}\r\n`;
    body += `${data.slice(at, end)}\r\n`;
    at = end;
  }
  const trailers = chance.happens(0.3) ? someOf(TRAILERS, 3, chance) : [];
  const section = trailers.map((line) => `${line}\r\n`).join('');
  return {
    field: ['Transfer-Encoding: chunked'],
    body: `${body}0${chance.pick(EXTENSIONS)}\r\n${section}\r\n`,
  };
}

export function someOf(lines: readonly string[], most: number, chance: Chance): string[] {
  const count = chance.below(most + 1);
  return Array.from({ length: count }, () => chance.pick(lines));
}

/** Mutates a text as an attacker would: inserts bytes that parsers disagree about, at critical places. */
import type { Chance } from './chance.ts';

const NASTY: readonly string[] = [
  ...['\r', '\n', '\r\n', '\n\n', '\r\r\n', '\r\n\r\n', '\r\n ', '\r\n\t', '\0', ' ', '  ', '\t'],
  ...['\x0b', '\x0c', '\x1f', '\x7f', '\x80', '\x85', '\xa0', '\xe9', '\xff'],
  ...[
    ':',
    ' :',
    ': ',
    ',',
    ', ',
    ';',
    '=',
    '"',
    '\\"',
    '%',
    '#',
    '?',
    '/',
    '@',
    '-',
    '+',
    '_',
    '*',
  ],
  ...['0', '1', '5', 'a', 'F', '00', '0x', '-1', '+5', '5, 5', '5 5', '1e1', '9007199254740993'],
  ...[
    '10000000000000000',
    'ffffffffffffffff',
    '0\r\n\r\n',
    '0\r\n',
    '\r\n0\r\n\r\n',
    '5\r\nhello\r\n',
  ],
  ...[';a', ';a=b', ';a="b"', ';a="\r\n"', ';a=\n', '; a=b', ';'],
  ...[
    'chunked',
    ' chunked',
    'xchunked',
    'chunked, chunked',
    'identity',
    'gzip, chunked',
    'Chunked',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Transfer-Encoding:\tchunked\r\n',
    'Transfer-Encoding: identity\r\n',
  ],
  ...[
    'Transfer-Encoding : chunked\r\n',
    'Transfer-Encoding: chunked\t\r\n',
    'Transfer_Encoding: chunked\r\n',
    'Transfer-Encoding\r\n',
  ],
  ...[
    'Content-Length: 5\r\n',
    'Content-Length: 0\r\n',
    'Content-Length: \r\n',
    'Content-Length : 5\r\n',
  ],
  ...['Content-Length: 5\n', 'content-length:5\r\n', ' Content-Length: 5\r\n'],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'Connection: Upgrade\r\n',
    'Connection: \xa0close\r\n',
  ],
  ...[
    'Connection: content-length\r\n',
    'Connection: x-a, host\r\n',
    'Connection: transfer-encoding\r\n',
  ],
  ...[
    'Upgrade: websocket\r\n',
    'Proxy-Connection: x\r\n',
    'Keep-Alive: timeout=5\r\n',
    'TE: trailers\r\n',
  ],
  ...[
    'Host: z\r\n',
    'Host: \r\n',
    'Expect: 100-continue\r\n',
    'Trailer: X-T\r\n',
    'X-A: b\r\n',
    'X-A:\r\n',
  ],
  ...['Via: 1.1 a\r\n', 'X-Forwarded-For: 1.2.3.4\r\n', 'Cookie: a="b;c"\r\n'],
  ...[' HTTP/1.1', ' HTTP/1.0', ' HTTP/2.0', 'HTTP/1.1', 'http/1.1', 'HTTP/1.1 200 OK\r\n'],
  ...['http://h', 'http://h/', 'https://h:443/x', '//h/', 'h:80', '[::1]:80', 'u@h'],
  ...['GET /inner HTTP/1.1\r\nHost: s\r\n\r\n', '100', '101', '204', '304'],
];

const MOST_SPLICED = 60;

/** Applies some mutations, often none. */
export function mutate(text: string, chance: Chance): string {
  let mutated = text;
  const count = chance.pick([0, 0, 1, 1, 1, 1, 1, 2, 2, 3]);
  for (let i = 0; i < count; i += 1) mutated = chance.pick(MUTATIONS)(mutated, chance);
  return mutated;
}

type Mutation = (text: string, chance: Chance) => string;

const insertNasty: Mutation = (text, chance) => {
  const at = chance.below(text.length + 1);
  return text.slice(0, at) + chance.pick(NASTY) + text.slice(at);
};

/** Inserts complete lines at the start of a line. */
const insertAtLine: Mutation = (text, chance) => {
  const lines = text.split('\r\n');
  const at = chance.below(lines.length);
  return [
    ...lines.slice(0, at),
    chance.pick(NASTY) + (lines[at] ?? ''),
    ...lines.slice(at + 1),
  ].join('\r\n');
};

const removeSome: Mutation = (text, chance) => {
  const at = chance.below(text.length + 1);
  return text.slice(0, at) + text.slice(at + chance.between(1, 3));
};

const replaceByte: Mutation = (text, chance) => {
  const at = chance.below(text.length + 1);
  return text.slice(0, at) + String.fromCharCode(chance.below(256)) + text.slice(at + 1);
};

const flipBit: Mutation = (text, chance) => {
  if (text === '') return text;
  const at = chance.below(text.length);
  const flipped = text.charCodeAt(at) ^ (1 << chance.below(8));
  return text.slice(0, at) + String.fromCharCode(flipped) + text.slice(at + 1);
};

const splice: Mutation = (text, chance) => {
  const at = chance.below(text.length + 1);
  const from = chance.below(text.length + 1);
  return text.slice(0, at) + text.slice(from, from + chance.below(MOST_SPLICED)) + text.slice(at);
};

const swapLines: Mutation = (text, chance) => {
  const lines = text.split('\r\n');
  const one = chance.below(lines.length);
  const other = chance.below(lines.length);
  [lines[one], lines[other]] = [lines[other] ?? '', lines[one] ?? ''];
  return lines.join('\r\n');
};

const repeatLine: Mutation = (text, chance) => {
  const lines = text.split('\r\n');
  lines.splice(chance.below(lines.length), 0, chance.pick(lines));
  return lines.join('\r\n');
};

const cutShort: Mutation = (text, chance) => text.slice(0, chance.below(text.length + 1));

const MUTATIONS: readonly Mutation[] = [
  ...[insertNasty, insertNasty, insertAtLine, insertAtLine, removeSome, replaceByte, flipBit],
  ...[splice, swapLines, repeatLine, cutShort],
];

/** A DNS server that responds as the test states, over real UDP. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { decode, encode, type Answer } from 'dns-packet';

export interface ScriptedDns {
  /** For `createDnsResolver`. */
  readonly server: string;
  /** Responses by name; a name in neither does not exist. */
  readonly txt: Map<string, string>;
  readonly aaaa: Map<string, string[]>;
  /** `TYPE name` of every query so far, in order. */
  readonly queries: string[];
  /** While true, queries get no response. */
  isUnresponsive: boolean;
}

export async function startScriptedDns(t: TestContext): Promise<ScriptedDns> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  const dns: ScriptedDns = {
    server: `127.0.0.1:${socket.address().port}`,
    txt: new Map(),
    aaaa: new Map(),
    queries: [],
    isUnresponsive: false,
  };
  socket.on('message', (message, { port, address }) => {
    if (!dns.isUnresponsive) socket.send(responseTo(message, dns), port, address);
  });
  return dns;
}

/** Long: a response from a cache would be detected. */
const TTL_SECONDS = 3_600;
/** RFC 1035 §4.1.1: the server is authoritative for the zone; the name does not exist. */
const AUTHORITATIVE = 0x0400;
const NAME_ERROR = 3;

function responseTo(message: Buffer, { txt, aaaa, queries }: ScriptedDns): Buffer {
  const { id = 0, questions = [] } = decode(message);
  const { name, type } = questions[0] ?? assert.fail('a message without a question');
  queries.push(`${type} ${name}`);
  const exists = txt.has(name) || aaaa.has(name);
  const ttl = TTL_SECONDS;
  const texts = type === 'TXT' ? chunked(txt.get(name)) : [];
  const addresses = type === 'AAAA' ? (aaaa.get(name) ?? []) : [];
  const answers: Answer[] = [
    ...texts.map((data) => ({ name, type: 'TXT', ttl, data }) as const),
    ...addresses.map((data) => ({ name, type: 'AAAA', ttl, data }) as const),
  ];
  const flags = AUTHORITATIVE | (exists ? 0 : NAME_ERROR);
  return encode({ type: 'response', id, flags, questions, answers });
}

/** One record, cut into strings of at most 255 bytes (RFC 1035 §3.3.14). */
function chunked(text: string | undefined): string[][] {
  if (text === undefined) return [];
  return [text.match(/.{1,255}/gs) ?? ['']];
}

/** The simulated resolver of the private network, `fdaa::3` on Fly.io. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import {
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Answer,
  type Packet,
  type RecordType,
} from 'dns-packet';
import type { ResolverState } from './network.ts';
import { resolveInternal, type NetworkMachine } from './zone.ts';

export interface DnsServer {
  /** `127.0.0.1:<port>`, UDP. */
  readonly address: string;
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
/** RFC 1035 §4.1.1: the server failed; the name does not exist. */
const SERVER_FAILURE = 2;
const NAME_ERROR = 3;
/** The TTL that Fly's resolver uses. */
const TTL_SECONDS = 5;

/** Responds with the state of the Machines at the time of the query. */
export async function startDnsServer(
  machines: () => readonly NetworkMachine[],
  state: () => ResolverState = () => ({ kind: 'responding' }),
): Promise<DnsServer> {
  const socket = createSocket('udp4');
  socket.on('message', (message, sender) => {
    const response = responseTo(message, machines(), state());
    // A send error has no receiver: the client has disconnected.
    if (response) socket.send(response, sender.port, sender.address, () => undefined);
  });
  socket.bind(0, HOST);
  await once(socket, 'listening');
  return { address: `${HOST}:${socket.address().port}`, close: () => closed(socket) };
}

/** Undefined if the message is not a query for one name, or gets no response. */
function responseTo(
  message: Buffer,
  current: readonly NetworkMachine[],
  state: ResolverState,
): Buffer | undefined {
  const question = questionOf(message);
  if (!question || state.kind === 'silent') return undefined;
  const { id, name, type } = question;
  if (state.kind === 'failing') {
    return encode({ type: 'response', id, flags: SERVER_FAILURE, questions: [{ name, type }] });
  }
  const machines = state.kind === 'stale' ? state.machines : current;
  const isKnownType = type === 'TXT' || type === 'AAAA';
  const values = resolveInternal(name.toLowerCase(), isKnownType ? type : undefined, machines);
  const answers = isKnownType ? (values ?? []).map((value) => recordOf(name, type, value)) : [];
  const flags = AUTHORITATIVE_ANSWER | (values ? 0 : NAME_ERROR);
  return encode({ type: 'response', id, flags, questions: [{ name, type }], answers });
}

function questionOf(message: Buffer): { id: number; name: string; type: RecordType } | undefined {
  try {
    const { id = 0, type, questions = [] }: Packet = decode(message);
    const [question] = questions;
    if (type === 'response' || !question || questions.length > 1) return undefined;
    return { id, name: question.name, type: question.type };
  } catch {
    // Not a DNS message, so no client waits for a response.
    return undefined;
  }
}

/** A text is sent as strings of at most 255 bytes (RFC 1035 §3.3.14). */
function recordOf(name: string, type: 'TXT' | 'AAAA', value: string): Answer {
  const ttl = TTL_SECONDS;
  if (type === 'AAAA') return { name, type, ttl, data: value };
  return { name, type, ttl, data: value.match(/.{1,255}/gs) ?? [''] };
}

async function closed(socket: Socket): Promise<void> {
  socket.close();
  await once(socket, 'close');
}

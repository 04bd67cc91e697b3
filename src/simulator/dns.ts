/** The simulated resolver of the private network, `fdaa::3` on Fly.io. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { decodeQuestion, encodeAnswer, RESPONSE_CODES } from './dns-message.ts';
import { resolveInternal, type NetworkMachine } from './zone.ts';

export interface DnsServer {
  /** `127.0.0.1:<port>`, UDP. */
  readonly address: string;
  close(): Promise<void>;
}

const HOST = '127.0.0.1';
/** What Fly's resolver gives its answers. */
const TTL_SECONDS = 5;

/** Answers from the state the Machines are in when the question comes. */
export async function startDnsServer(
  machines: () => readonly NetworkMachine[],
): Promise<DnsServer> {
  const socket = createSocket('udp4');
  socket.on('message', (message, sender) => {
    const answer = answerTo(message, machines());
    // Who asks and leaves gets no answer; there is nobody to tell.
    if (answer) socket.send(answer, sender.port, sender.address, () => undefined);
  });
  socket.bind(0, HOST);
  await once(socket, 'listening');
  return { address: `${HOST}:${socket.address().port}`, close: () => closed(socket) };
}

function answerTo(message: Buffer, machines: readonly NetworkMachine[]): Buffer | undefined {
  const question = decodeQuestion(message);
  if (!question) return undefined;
  const values = resolveInternal(question.name, question.type, machines);
  const responseCode = values ? RESPONSE_CODES.ok : RESPONSE_CODES.nameError;
  return encodeAnswer(question, responseCode, values ?? [], TTL_SECONDS);
}

async function closed(socket: Socket): Promise<void> {
  socket.close();
  await once(socket, 'close');
}

/** The answering side of the peers: questions and announcements that arrive at the peer listener. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { MachineId, SessionKey } from '../affinity/session.ts';
import type { Directory } from './directory.ts';
import { createKeeper, type KeeperOptions } from './keeper.ts';
import {
  ANNOUNCE_PATH,
  ASK_PATH,
  formatAnswer,
  MAX_MESSAGE_BYTES,
  parseAnnounce,
  parseAsk,
  type KeyAnswer,
} from './messages.ts';

export interface PeerServiceOptions extends KeeperOptions {
  readonly directory: Pick<Directory, 'lists' | 'isAddressOf' | 'refresh'>;
  /** That Machine has asked or told us something: it is there. */
  readonly onHeard?: (machine: MachineId) => void;
}

/** Handles the request if its path is one of the two, and says whether it was. */
export type PeerService = (request: IncomingMessage, response: ServerResponse) => boolean;

type Answers = ReadonlyMap<SessionKey, KeyAnswer>;

/** What the message is answered with, or the status that refuses it. */
type Verdict = Answers | 400 | 403;
type Respond = (text: string, isFrom: IsFrom) => Promise<Verdict>;
/** Whether the message comes from where that Machine is. */
type IsFrom = (machine: MachineId) => boolean;

/**
 * Answers for this Machine's own bindings alone, and believes what a peer says of itself alone.
 *
 * A claim of another Machine can end a binding of ours, so it counts only from that Machine: its
 * name has to be one the directory lists, at the very address that the socket comes from. Nothing
 * that a client sends gets here: this listener is not the public one, messages are made by sidecars
 * out of their own stores, and there only the app's own acceptance creates a binding (invariants 2
 * and 4). What a client can bring about is that another app accepts an id of its own choice; such an
 * `adopted` binding never takes a `learned` one away (`outranks`), and the loser is a session that
 * the same client holds the credential of. Either way the winner is the same on both sides, whoever
 * hears of the conflict first.
 */
export function createPeerService(options: PeerServiceOptions): PeerService {
  const { directory } = options;
  const keeper = createKeeper(options);

  const respondTo = new Map<string, Respond>([
    [ASK_PATH, respondToQuestions],
    [ANNOUNCE_PATH, respondToAnnouncements],
  ]);

  async function respondToQuestions(text: string, isFrom: IsFrom): Promise<Verdict> {
    const message = parseAsk(text);
    if (!message) return 400;
    if (!isFrom(message.from)) return 403;
    const { from, questions } = message;
    return answersTo(questions, ({ key, claim }) => keeper.answer(key, from, claim));
  }

  async function respondToAnnouncements(text: string, isFrom: IsFrom): Promise<Verdict> {
    const message = parseAnnounce(text);
    if (!message) return 400;
    if (!isFrom(message.from)) return 403;
    const { from, bindings } = message;
    return answersTo(bindings, ({ key, claim }) => keeper.hear(key, from, claim));
  }

  async function verdictOn(
    request: IncomingMessage,
    respond: Respond,
  ): Promise<Verdict | 405 | 413> {
    const address = request.socket.remoteAddress;
    if (address === undefined || !directory.lists(address)) {
      // It may have started after the last reading.
      void directory.refresh();
      return 403;
    }
    if (request.method !== 'POST') return 405;
    const text = await readText(request);
    if (text === undefined) return 413;
    return respond(text, (machine) => {
      const isFrom = directory.isAddressOf(machine, address);
      if (isFrom) options.onHeard?.(machine);
      return isFrom;
    });
  }

  async function handle(
    request: IncomingMessage,
    response: ServerResponse,
    respond: Respond,
  ): Promise<void> {
    const verdict = await verdictOn(request, respond);
    if (typeof verdict === 'number') {
      refuse(response, verdict);
      return;
    }
    response.setHeader('content-type', 'application/json');
    response.end(formatAnswer({ machine: options.self, answers: verdict }));
  }

  return (request, response) => {
    const respond = respondTo.get(request.url ?? '');
    if (!respond) return false;
    handle(request, response, respond).catch((error: unknown) => {
      // The peer has left, or something unexpected happened: its question stays unanswered.
      if (!request.socket.destroyed) options.onError?.(error);
      response.destroy();
    });
    return true;
  };
}

async function answersTo<Item extends { readonly key: SessionKey }>(
  items: readonly Item[],
  answerTo: (item: Item) => Promise<KeyAnswer | undefined>,
): Promise<Answers> {
  const answers = new Map<SessionKey, KeyAnswer>();
  await Promise.all(
    items.map(async (item) => {
      const answer = await answerTo(item);
      if (answer !== undefined) answers.set(item.key, answer);
    }),
  );
  return answers;
}

/** The body, or undefined if it is over the bound; rejects if the peer breaks off. */
function readText(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_MESSAGE_BYTES) resolve(undefined);
      else chunks.push(chunk);
    });
    request.once('end', () => resolve(Buffer.concat(chunks).toString()));
    request.once('close', () => reject(new Error('the peer broke off')));
  });
}

/** What is left of the body is not read: the connection ends with the answer. */
function refuse(response: ServerResponse, status: 400 | 403 | 405 | 413): void {
  if (status === 405) response.setHeader('allow', 'POST');
  response.writeHead(status, { connection: 'close', 'content-length': 0 }).end();
}

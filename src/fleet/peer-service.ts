/** Serves the messages of peers that arrive at the peer listener: questions, announcements, status, bindings. */
import type { MachineId, SessionKey } from '../session.ts';
import type { Directory } from './directory.ts';
import type { ClaimResolver } from './claim-resolver.ts';
import {
  ANNOUNCE_PATH,
  ASK_PATH,
  formatResponse,
  formatStatusResponse,
  parseAnnounce,
  parseAsk,
  parseStatus,
  STATUS_PATH,
  type KeyResponse,
  type PeerStatus,
} from './messages.ts';

export interface PeerServiceOptions {
  readonly self: MachineId;
  readonly claimResolver: ClaimResolver;
  readonly directory: Pick<Directory, 'isPeerAddress' | 'isAddressOf' | 'refresh'>;
  /** That Machine has asked or told us something: it is there. */
  readonly onRequestFrom?: (machine: MachineId) => void;
  /** That Machine has told its status. */
  readonly onStatus?: (machine: MachineId, status: PeerStatus) => void;
  /** What we tell of ourselves. */
  readonly status: () => PeerStatus;
  /** That Machine has announced the key as its own. */
  readonly onAnnounced?: (key: SessionKey, machine: MachineId) => void;
  /** Messages of other kinds, by path. */
  readonly handlers?: Readonly<Record<string, HandleMessage>>;
}

/** A request to the peer listener. */
export interface PeerRequest {
  readonly method: string;
  readonly path: string;
  /** Where it comes from, as the socket has it. */
  readonly address: string;
  /** The body; undefined if it is longer than `MAX_MESSAGE_BYTES`. Rejects if the peer breaks off. */
  readonly readText: () => Promise<string | undefined>;
}

/** The body of a 200, which is JSON, or the status that refuses the request. */
export type PeerResponse =
  { readonly body: string } | { readonly status: 400 | 403 | 405 | 410 | 413 | 503 };

/** Undefined if nothing is at the path. Rejects only if the peer breaks off, or on a defect. */
export type PeerService = (request: PeerRequest) => Promise<PeerResponse> | undefined;

type Answers = ReadonlyMap<SessionKey, KeyResponse>;

/** The body that the message is answered with, or the status that refuses it. */
export type MessageResponse = string | 400 | 403 | 410 | 503;
export type HandleMessage = (text: string, isFrom: IsFrom) => Promise<MessageResponse>;
/** Whether the message comes from where that Machine is. */
export type IsFrom = (machine: MachineId) => boolean;

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
  const { directory, self, claimResolver: keeper } = options;

  const handlers = new Map<string, HandleMessage>([
    [ASK_PATH, respondToQuestions],
    [ANNOUNCE_PATH, respondToAnnouncements],
    [STATUS_PATH, (text, isFrom) => Promise.resolve(respondToStatus(text, isFrom))],
    ...Object.entries(options.handlers ?? {}),
  ]);

  async function respondToQuestions(text: string, isFrom: IsFrom): Promise<MessageResponse> {
    const message = parseAsk(text);
    if (!message) return 400;
    if (!isFrom(message.from)) return 403;
    const { from, questions } = message;
    const answers = await answersTo(questions, ({ key, claim }) =>
      keeper.answerQuery(key, from, claim),
    );
    return formatResponse({ machine: self, answers });
  }

  async function respondToAnnouncements(text: string, isFrom: IsFrom): Promise<MessageResponse> {
    const message = parseAnnounce(text);
    if (!message) return 400;
    if (!isFrom(message.from)) return 403;
    const { from, bindings } = message;
    const answers = await answersTo(bindings, ({ key, claim }) => {
      options.onAnnounced?.(key, from);
      return keeper.onAnnouncement(key, from, claim);
    });
    return formatResponse({ machine: self, answers });
  }

  function respondToStatus(text: string, isFrom: IsFrom): MessageResponse {
    const message = parseStatus(text);
    if (!message) return 400;
    if (!isFrom(message.from)) return 403;
    options.onStatus?.(message.from, message.status);
    return formatStatusResponse({ machine: self, status: options.status() });
  }

  async function verdictOn(
    { method, address, readText }: PeerRequest,
    respond: HandleMessage,
  ): Promise<MessageResponse | 405 | 413> {
    if (!directory.isPeerAddress(address)) {
      // It may have started after the last reading.
      void directory.refresh();
      return 403;
    }
    if (method !== 'POST') return 405;
    const text = await readText();
    if (text === undefined) return 413;
    return respond(text, (machine) => {
      const isFrom = directory.isAddressOf(machine, address);
      if (isFrom) options.onRequestFrom?.(machine);
      return isFrom;
    });
  }

  async function serve(request: PeerRequest, respond: HandleMessage): Promise<PeerResponse> {
    const verdict = await verdictOn(request, respond);
    return typeof verdict === 'number' ? { status: verdict } : { body: verdict };
  }

  return (request) => {
    const respond = handlers.get(request.path);
    return respond && serve(request, respond);
  };
}

async function answersTo<Item extends { readonly key: SessionKey }>(
  items: readonly Item[],
  answerTo: (item: Item) => Promise<KeyResponse | undefined>,
): Promise<Answers> {
  const answers = new Map<SessionKey, KeyResponse>();
  await Promise.all(
    items.map(async (item) => {
      const answer = await answerTo(item);
      if (answer !== undefined) answers.set(item.key, answer);
    }),
  );
  return answers;
}

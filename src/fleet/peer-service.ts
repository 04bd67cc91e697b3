/** Responds to the messages of peers at the peer listener: queries, announcements, heartbeats and others. */
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
  /** The Machine has sent a message. */
  readonly onRequestFrom?: (machine: MachineId) => void;
  /** The Machine has sent its status. */
  readonly onStatus?: (machine: MachineId, status: PeerStatus) => void;
  /** Our own status. */
  readonly status: () => PeerStatus;
  /** The Machine has announced the key as its own. */
  readonly onAnnounced?: (key: SessionKey, machine: MachineId) => void;
  /** Messages of other kinds, by path. */
  readonly handlers?: Readonly<Record<string, HandleMessage>>;
}

/** A request to the peer listener. */
interface PeerRequest {
  readonly method: string;
  readonly path: string;
  /** The remote address of the socket. */
  readonly address: string;
  /** The body; undefined if it is longer than `MAX_MESSAGE_BYTES`. Rejects if the peer disconnects. */
  readonly readText: () => Promise<string | undefined>;
}

/** The body of a 200, which is JSON, or an error status. */
export type PeerResponse =
  { readonly body: string } | { readonly status: 400 | 403 | 405 | 410 | 413 | 503 };

/** Undefined if nothing is at the path. Rejects only if the peer disconnects, or on a defect. */
export type PeerService = (request: PeerRequest) => Promise<PeerResponse> | undefined;

/** The body of a 200, or an error status. */
export type MessageResponse = string | 400 | 403 | 410 | 503;
export type HandleMessage = (text: string, isFrom: IsFrom) => Promise<MessageResponse>;
/** Whether the message comes from an address of that Machine. */
type IsFrom = (machine: MachineId) => boolean;

/**
 * Reports only this Machine's own bindings, and accepts only claims of a peer about itself.
 *
 * A claim of another Machine can end a binding of ours, so it counts only from that Machine: the
 * directory must list its id at the remote address of the socket. Nothing that a client sends gets
 * here: this listener is not public, and sidecars make messages from their own stores, where only
 * the app's acceptance creates a binding (invariants 2 and 4). A client can make another app accept an
 * id of its own choice. Such an `adopted` binding never takes a `learned` one away (`outranks`), and the
 * loser is a session whose credential the same client holds. Both Machines compute the same winner,
 * whichever learns of the conflict first.
 */
export function createPeerService(options: PeerServiceOptions): PeerService {
  const { self, directory, claimResolver, status } = options;
  const handlers = new Map<string, HandleMessage>([
    [
      ASK_PATH,
      handlerOf(parseAsk, async ({ from, questions }) => {
        const answers = await respondToEach(questions, ({ key, claim }) =>
          claimResolver.onQuery(key, from, claim),
        );
        return formatResponse({ machine: self, answers });
      }),
    ],
    [
      ANNOUNCE_PATH,
      handlerOf(parseAnnounce, async ({ from, bindings }) => {
        const answers = await respondToEach(bindings, ({ key, claim }) => {
          options.onAnnounced?.(key, from);
          return claimResolver.onAnnouncement(key, from, claim);
        });
        return formatResponse({ machine: self, answers });
      }),
    ],
    [
      STATUS_PATH,
      handlerOf(parseStatus, (message) => {
        options.onStatus?.(message.from, message.status);
        return formatStatusResponse({ machine: self, status: status() });
      }),
    ],
    ...Object.entries(options.handlers ?? {}),
  ]);

  async function handle(
    { method, address, readText }: PeerRequest,
    handleMessage: HandleMessage,
  ): Promise<MessageResponse | 405 | 413> {
    if (!directory.isPeerAddress(address)) {
      // The Machine may have started after the last reading.
      void directory.refresh();
      return 403;
    }
    if (method !== 'POST') return 405;
    const text = await readText();
    if (text === undefined) return 413;
    return handleMessage(text, (machine) => {
      const isFrom = directory.isAddressOf(machine, address);
      if (isFrom) options.onRequestFrom?.(machine);
      return isFrom;
    });
  }

  return (request) => {
    const handleMessage = handlers.get(request.path);
    return handleMessage && handle(request, handleMessage).then(toPeerResponse);
  };
}

/** Returns 400 for malformed messages, and 403 if the sender's address does not belong to its Machine id. */
export function handlerOf<Message extends { readonly from: MachineId }>(
  parse: (text: string) => Message | undefined,
  respond: (message: Message) => MessageResponse | Promise<MessageResponse>,
): HandleMessage {
  return async (text, isFrom) => {
    const message = parse(text);
    if (!message) return 400;
    return isFrom(message.from) ? respond(message) : 403;
  };
}

function toPeerResponse(response: MessageResponse | 405 | 413): PeerResponse {
  return typeof response === 'number' ? { status: response } : { body: response };
}

async function respondToEach<Item extends { readonly key: SessionKey }>(
  items: readonly Item[],
  respond: (item: Item) => Promise<KeyResponse | undefined>,
): Promise<ReadonlyMap<SessionKey, KeyResponse>> {
  const answers = new Map<SessionKey, KeyResponse>();
  await Promise.all(
    items.map(async (item) => {
      const response = await respond(item);
      if (response !== undefined) answers.set(item.key, response);
    }),
  );
  return answers;
}

/**
 * One connection of SignalR's JSON protocol, independent of its transport
 * (https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md).
 */
import { z } from 'zod';
import { HERE } from './door.ts';

/** Ends every message. */
const SEPARATOR = '\x1e';
const INVOCATION = 1;
const COMPLETION = 3;
const PING = 6;
const CLOSE = 7;
/** Short enough for a client to be pinged during a test, in ms. */
const PING_EVERY_MS = 1_000;

const Handshake = z.object({ protocol: z.literal('json'), version: z.literal(1) });
const Message = z.union([
  z.object({ type: z.literal(INVOCATION), invocationId: z.string(), target: z.string() }),
  z.object({ type: z.literal(PING) }),
  z.object({ type: z.literal(CLOSE) }),
]);

/** shaking hands --(handshake)--> open --(end)--> ended */
export class SignalRConnection {
  #state: 'shaking hands' | 'open' | 'ended' = 'shaking hands';
  #count = 0;
  #unsent = '';
  #deliver: ((text: string) => void) | undefined;
  readonly #pinging = setInterval(() => this.#send({ type: PING }), PING_EVERY_MS).unref();
  readonly #onEnd: () => void;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /** Sends the queued messages, and all later ones, over this transport. */
  deliverBy(deliver: (text: string) => void): void {
    this.#deliver = deliver;
    this.#flush();
  }

  /** From now on messages are queued. */
  deliverLater(): void {
    this.#deliver = undefined;
  }

  /** One message or several, whole: a transport does not split them. */
  receive(text: string): void {
    for (const message of text.split(SEPARATOR)) {
      if (message !== '') this.#receiveOne(JSON.parse(message));
    }
  }

  end(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    clearInterval(this.#pinging);
    this.#onEnd();
  }

  #receiveOne(message: unknown): void {
    if (this.#state === 'shaking hands') {
      Handshake.parse(message);
      this.#state = 'open';
      this.#send({});
      return;
    }
    const parsed = Message.parse(message);
    if (parsed.type === PING) this.#call('pinged', { ...HERE, count: this.#count });
    if (parsed.type === INVOCATION) this.#invoke(parsed.invocationId, parsed.target);
  }

  #invoke(invocationId: string, target: string): void {
    if (target !== 'count') {
      this.#send({ type: COMPLETION, invocationId, error: `no such method: ${target}` });
      return;
    }
    this.#count += 1;
    const result = { ...HERE, count: this.#count };
    this.#send({ type: COMPLETION, invocationId, result });
  }

  /** Calls a method of the client, started by the server: there is no response. */
  #call(target: string, argument: object): void {
    this.#send({ type: INVOCATION, target, arguments: [argument] });
  }

  #send(message: object): void {
    // A ping before the handshake response would be taken for it.
    if (this.#state !== 'open') return;
    this.#unsent += JSON.stringify(message) + SEPARATOR;
    this.#flush();
  }

  #flush(): void {
    if (this.#unsent === '' || !this.#deliver) return;
    const text = this.#unsent;
    this.#unsent = '';
    this.#deliver(text);
  }
}

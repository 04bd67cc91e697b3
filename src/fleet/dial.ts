/** Connections to a Machine at the address it has now, for undici's pools. */
import { connect as connectSocket, type Socket } from 'node:net';
import type { buildConnector } from 'undici';
import type { Clock } from '../clock.ts';

/** `refused`: nobody listens there. */
export type DialOutcome = 'connected' | 'refused' | 'failed';

export interface DialerOptions {
  /** The address as known now, asked at each connection; undefined while there is none. */
  readonly addressOf: () => string | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** An attempt to connect has ended by itself. */
  readonly onDialled?: ((outcome: DialOutcome) => void) | undefined;
}

export interface Dialer {
  /** `connect` option of an undici `Pool`, whose origin gives the port and the `Host` header. */
  readonly connect: buildConnector.connector;
  /** Gives up what is still connecting; undici would leave it to its timeout. */
  close(): void;
}

export type DialErrorCode = 'address-unknown' | 'connect-timeout' | 'closed';

export class DialError extends Error {
  override readonly name = 'DialError';
  readonly code: DialErrorCode;

  constructor(code: DialErrorCode) {
    super(`cannot connect to the peer: ${code}`);
    this.code = code;
  }
}

/**
 * Addresses come from the directory and never from the system's resolver: a name is resolved in
 * the background, so that no question waits for it, and a Machine is dialled only where the
 * directory lists it.
 */
export function createDialer(options: DialerOptions): Dialer {
  const { addressOf, timeoutMs, clock, onDialled } = options;
  const connecting = new Set<Socket>();

  function connect(target: buildConnector.Options, callback: buildConnector.Callback): void {
    const host = addressOf();
    if (host === undefined) {
      // Not within the call: undici is in the middle of its own bookkeeping.
      queueMicrotask(() => callback(new DialError('address-unknown'), null));
      return;
    }
    const socket = connectSocket({ host, port: Number(target.port), noDelay: true });
    connecting.add(socket);
    const cancelTimeout = clock.after(timeoutMs, () => {
      socket.destroy(new DialError('connect-timeout'));
    });
    const settle = (error: Error | undefined): void => {
      connecting.delete(socket);
      cancelTimeout();
      socket.off('connect', succeed).off('error', settle);
      if (!isClosed(error)) onDialled?.(outcomeOf(error));
      if (error) callback(error, null);
      else callback(null, socket);
    };
    const succeed = (): void => settle(undefined);
    socket.once('connect', succeed).once('error', settle);
  }

  return {
    connect,
    close: () => connecting.forEach((socket) => socket.destroy(new DialError('closed'))),
  };
}

function outcomeOf(error: NodeJS.ErrnoException | undefined): DialOutcome {
  if (!error) return 'connected';
  return error.code === 'ECONNREFUSED' ? 'refused' : 'failed';
}

/** We have given up ourselves, which says nothing of the peer. */
function isClosed(error: Error | undefined): boolean {
  return error instanceof DialError && error.code === 'closed';
}

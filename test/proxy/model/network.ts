/** The private network between the sidecars of a model: the real messages, delivered one step at a time. */
import type { MachineId } from '../../../src/session.ts';
import { ANNOUNCE_PATH } from '../../../src/fleet/messages.ts';
import type { LoadUndici } from '../../../src/fleet/peer-client.ts';
import type { PeerResponse, PeerService } from '../../../src/fleet/peer-service.ts';
import type { Steps } from './steps.ts';

export interface NetworkParts {
  readonly steps: Steps;
  /** Whether that Machine receives messages and its responses are delivered. */
  readonly isUp: (machine: MachineId) => boolean;
  /** Whether each announcement arrives twice. */
  readonly duplicates: boolean;
  readonly serviceOf: (machine: MachineId) => PeerService | undefined;
}

interface Posted {
  readonly path: string;
  readonly body: string;
  readonly signal: AbortSignal;
}

/** A replacement for undici in the peer client of that Machine. */
export function undiciOf(self: MachineId, parts: NetworkParts): LoadUndici {
  const { steps, isUp, serviceOf, duplicates } = parts;

  async function deliver(to: MachineId, { path, body }: Posted): Promise<PeerResponse> {
    await steps.pass(`${self} to ${to} ${path}`);
    if (!isUp(self) || !isUp(to)) return NEVER;
    const readText = (): Promise<string> => Promise.resolve(body);
    const request = { method: 'POST', path, address: addressOf(self), readText };
    const response = await serviceOf(to)?.(request);
    await steps.pass(`${to} responds to ${self} ${path}`);
    return response && isUp(to) ? response : NEVER;
  }

  class ModelPool {
    readonly #to: MachineId;

    constructor(origin: string) {
      this.#to = new URL(origin).hostname as MachineId;
    }

    async request(posted: Posted): Promise<unknown> {
      if (duplicates && posted.path === ANNOUNCE_PATH) void deliver(this.#to, posted);
      const response = await untilAborted(deliver(this.#to, posted), posted.signal);
      const text = 'body' in response ? response.body : '';
      return {
        statusCode: 'body' in response ? 200 : response.status,
        body: { text: () => Promise.resolve(text), dump: () => Promise.resolve() },
      };
    }

    destroy(): Promise<void> {
      return Promise.resolve();
    }
  }

  const undici = { Pool: ModelPool as unknown as Awaited<ReturnType<LoadUndici>>['Pool'] };
  return () => Promise.resolve(undici);
}

const NEVER = new Promise<never>(() => undefined);

/** The address of `m1` is `fdaa::1`. */
export function addressOf(machine: MachineId): string {
  return `fdaa::${machine.slice(1)}`;
}

function untilAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Error('aborted'));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    void work.then((value) => {
      signal.removeEventListener('abort', onAbort);
      resolve(value);
    });
  });
}

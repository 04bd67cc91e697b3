/**
 * Fly's Machines API as a Machine sees it at `/.fly/api`: a Unix socket of its own, without a token, on which it
 * can suspend itself (https://fly.io/docs/reference/suspend-resume/).
 */
import { createServer, type RequestListener, type Server } from 'node:http';
import { join } from 'node:path';
import type { MachineId } from '../session.ts';
import type { SimulatedMachine } from './machine.ts';

/**
 * `suspends`: responds, then freezes the Machine. `suspends-first`: the response comes when the Machine has resumed.
 * `ignores`: responds, and does nothing. `refuses`, `fails`: 400, 500. `hangs`: no response.
 */
export type SuspendBehavior =
  'suspends' | 'suspends-first' | 'ignores' | 'refuses' | 'fails' | 'hangs';

interface MachinesApi {
  /** The path of the socket of this Machine. */
  open(machine: MachineId): Promise<string>;
  setBehavior(behavior: SuspendBehavior): void;
  close(): Promise<void>;
}

interface MachinesApiOptions {
  /** A Unix socket has a path of 107 bytes at most. */
  readonly directory: string;
  readonly machines: () => readonly SimulatedMachine[];
}

export function createMachinesApi({ directory, machines }: MachinesApiOptions): MachinesApi {
  const servers: Server[] = [];
  let behavior: SuspendBehavior = 'suspends';

  const respond = (id: MachineId): RequestListener => {
    return ({ method, url }, response) => {
      const machine = machines().find((other) => other.id === id);
      const path = `/v1/apps/${machine?.app}/machines/${id}/suspend`;
      const isFound = machine && method === 'POST' && url === path;
      const [status, body] = isFound ? RESPONSES[behavior] : NOT_FOUND;
      const suspend = (): void => {
        if (isFound && machine.state === 'started') machine.suspend();
      };
      if (behavior === 'hangs') return;
      if (behavior === 'suspends-first') suspend();
      response.writeHead(status, { 'content-type': 'application/json' }).end(body);
      if (behavior === 'suspends') response.once('finish', suspend);
    };
  };

  return {
    open: async (machine) => {
      const server = createServer(respond(machine));
      servers.push(server);
      const path = join(directory, `${machine}.sock`);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject).listen(path, resolve);
      });
      return path;
    },
    setBehavior: (given) => {
      behavior = given;
    },
    close: async () => {
      await Promise.all(servers.map(closed));
    },
  };
}

const OK = [200, '{"ok":true}'] as const;
const NOT_FOUND = [404, '{"error":"machine not found"}'] as const;
const RESPONSES = {
  suspends: OK,
  'suspends-first': OK,
  ignores: OK,
  hangs: OK,
  refuses: [400, '{"error":"machine has too much memory to be suspended"}'],
  fails: [500, '{"error":"internal server error"}'],
} as const satisfies Record<SuspendBehavior, readonly [number, string]>;

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

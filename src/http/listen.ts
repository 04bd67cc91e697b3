/** Opens a listener, and says why that failed. */
import type { AddressInfo, ListenOptions, Server } from 'node:net';

export interface ListenAddress {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
}

/** All addresses of IPv6, and of IPv4 through it. */
const ANY_ADDRESS = '::';
const ANY_IPV4_ADDRESS = '0.0.0.0';

/** Resolves to the port once the server listens; rejects with the address and the reason. */
export async function listen(server: Server, { host, port }: ListenAddress): Promise<number> {
  try {
    return await listenOn(server, { host, port });
  } catch (error) {
    const lacksIpv6 = host === ANY_ADDRESS && NO_IPV6.has(codeOf(error));
    if (lacksIpv6) return listenOn(server, { host: ANY_IPV4_ADDRESS, port });
    const address = host.includes(':') ? `[${host}]` : host;
    const reason = REASONS[codeOf(error)] ?? codeOf(error);
    throw new Error(`cannot listen on ${address}:${port}: ${reason}`, { cause: error });
  }
}

/** The error codes of a kernel without IPv6. */
const NO_IPV6: ReadonlySet<string> = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL']);

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens on it',
  EACCES: 'not permitted',
  EADDRNOTAVAIL: 'this computer has no such address',
  ENOTFOUND: 'the name is not known',
};

function listenOn(server: Server, options: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
}

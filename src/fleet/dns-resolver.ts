/** The port that resolves names of the private network, and its adapter for a DNS server. */
import { lookup, Resolver } from 'node:dns/promises';

/** Both reject when there is no answer, be it that the name does not exist or that nobody answers. */
export interface NameResolver {
  /** TXT records, each in the chunks it was sent in. */
  txt(name: string): Promise<string[][]>;
  aaaa(name: string): Promise<string[]>;
  /** Makes every query in flight reject. */
  cancel(): void;
}

export interface DnsResolverOptions {
  /** `address:port` or `[address]:port` of the server; the system's servers unless given. */
  readonly server?: string;
  /** How long a server has to answer the first try, in ms; later tries wait longer. */
  readonly timeoutMs?: number;
  readonly tries?: number;
}

/** A server of the private network answers in a millisecond; one that takes a second is down. */
const TIMEOUT_MS = 1_000;
const TRIES = 2;

export function createDnsResolver(options: DnsResolverOptions = {}): NameResolver {
  const { server, timeoutMs = TIMEOUT_MS, tries = TRIES } = options;
  const resolver = new Resolver({ timeout: timeoutMs, tries });
  if (server !== undefined) resolver.setServers([server]);
  return {
    txt: (name) => resolver.resolveTxt(name),
    aaaa: (name) => resolver.resolve6(name),
    cancel: () => resolver.cancel(),
  };
}

/** Addresses of a host as the system knows them: hosts file and all. Rejects if there are none. */
export async function lookupHost(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address }) => address);
}

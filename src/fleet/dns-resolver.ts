/** Looks up names: those of Fly's private DNS, and hosts. */
import { lookup, Resolver } from 'node:dns/promises';

/** Both reject if the name does not exist or no server responds. */
export interface NameResolver {
  /** TXT records, each as the chunks of the DNS response. */
  txt(name: string): Promise<string[][]>;
  aaaa(name: string): Promise<string[]>;
  /** Makes every query in flight reject. */
  cancel(): void;
}

interface DnsResolverOptions {
  /** `address:port` or `[address]:port` of the server; the system's servers unless given. */
  readonly server?: string;
  /** How long the first try waits for a response, in ms; later tries wait longer. */
  readonly timeoutMs?: number;
  readonly tries?: number;
}

/** A server of the private network responds in a millisecond; one that takes a second is down. */
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

/** Addresses of a host from the system's resolver, which includes the hosts file. Rejects if there are none. */
export async function lookupHost(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address }) => address);
}

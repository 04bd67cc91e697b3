/** One spelling for an IP address, so that a socket's remote address and a DNS answer can be compared. */
import { isIP, SocketAddress } from 'node:net';

/** An IPv6 address that stands for an IPv4 one (RFC 4291 §2.5.5.2): a dual-stack socket shows these. */
const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/** The canonical spelling, IPv4-mapped addresses as IPv4 and without a zone; undefined for what is no address. */
export function normalizeAddress(text: string): string | undefined {
  const withoutZone = text.split('%', 1)[0] ?? '';
  const version = isIP(withoutZone);
  if (version === 0) return undefined;
  if (version === 4) return withoutZone;
  const { address } = new SocketAddress({ address: withoutZone, family: 'ipv6' });
  return MAPPED_IPV4.exec(address)?.[1] ?? address;
}

/**
 * Whether a request names a host of the public DNS. A page on the web can let its own name lead to this port (DNS
 * rebinding) and would read what the port shows. It can't do that with an address, a single label, or a name that no
 * public DNS has.
 */
import { isIP } from 'node:net';

/** RFC 6761, RFC 6762, the private names of Fly.io and of clouds, and those of service discovery. */
const PRIVATE = /(?:^|\.)(?:localhost|local|internal|flycast|test|consul|lan|home\.arpa)$/;
const PORT = /:\d*$/;

export const HOST_REFUSED =
  'host name not allowed without ADMIN_TOKEN: use an address, or a name such as MACHINE.vm.my-app.internal';

export function isPublicHost(host = ''): boolean {
  if (host.startsWith('[')) return false;
  const name = host.replace(PORT, '').replace(/\.$/, '').toLowerCase();
  return name.includes('.') && isIP(name) === 0 && !PRIVATE.test(name);
}

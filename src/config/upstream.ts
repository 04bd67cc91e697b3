/** Warns of an app that is not where its sidecar is. */
import { isIP } from 'node:net';
import { LOOPBACK_HOST } from './checks.ts';
import type { Config } from './config.ts';
import { namesAsSet, type Environment } from './environment.ts';

/** One warning if the app is known to be elsewhere: its sessions would be bound to the wrong Machine. */
export function warnAboutUpstream(
  { upstreamUrl, identity }: Pick<Config, 'upstreamUrl' | 'identity'>,
  env: Environment,
): string[] {
  const host = upstreamUrl.hostname.replace(/^\[(.*)\]$/, '$1');
  const isOwn =
    host === env.FLY_PRIVATE_IP || host === `${identity.machine}.vm.${identity.app}.internal`;
  if (isOwn || !isElsewhere(upstreamUrl.hostname, host)) return [];
  const warning = `UPSTREAM_URL is ${upstreamUrl.origin}, which is not this Machine: the sidecar binds sessions to its own Machine, so the app must run there, as at http://127.0.0.1:3000`;
  return [namesAsSet(env)(warning)];
}

/** A name without a dot may be this Machine: `fly-local-6pn`, a container beside this one. */
function isElsewhere(hostname: string, host: string): boolean {
  if (LOOPBACK_HOST.test(hostname)) return false;
  switch (isIP(host)) {
    case 4:
      return !PRIVATE_IPV4.test(host);
    case 6:
      return !/^f[cd]|^fe80:/.test(host) || host.startsWith(FLY_PRIVATE_NETWORK);
    default:
      return host.replace(/\.$/, '').includes('.') && !/\.localhost\.?$/.test(host);
  }
}

/** RFC 1918 and link-local: any of them may be an address of this Machine. */
const PRIVATE_IPV4 = /^(10|127|192\.168|169\.254|172\.(1[6-9]|2\d|3[01]))\./;
/** https://fly.io/docs/networking/private-networking/ */
const FLY_PRIVATE_NETWORK = 'fdaa:';

/** Where processes listen, as Linux tells it in `/proc`; nothing elsewhere. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ListeningSocket {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

export function listeningSockets(processes: readonly number[]): readonly ListeningSocket[] {
  const inodes = new Set(processes.flatMap(socketInodes));
  if (inodes.size === 0) return [];
  return ['tcp', 'tcp6'].flatMap((name) =>
    readTable(name)
      .filter(({ inode, state }) => state === LISTEN && inodes.has(inode))
      .map(({ local }) => parseAddress(local)),
  );
}

/** Nothing of a process that has ended, or belongs to another user. */
function socketInodes(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => inodeOf(`/proc/${pid}/fd/${fd}`) ?? []);
  } catch {
    return [];
  }
}

function inodeOf(link: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(link))?.[1];
  } catch {
    // Closed meanwhile.
    return undefined;
  }
}

/** TCP_LISTEN in the kernel's include/net/tcp_states.h. */
const LISTEN = '0A';

interface TableRow {
  readonly local: string;
  readonly state: string;
  readonly inode: string;
}

/** proc_pid_net(5). Empty if there is no such table, as of a kernel without IPv6. */
function readTable(name: string): readonly TableRow[] {
  try {
    const [, ...lines] = readFileSync(`/proc/self/net/${name}`, 'latin1').trimEnd().split('\n');
    return lines.map((line) => {
      const [, local = '', , state = '', , , , , , inode = ''] = line.trim().split(/\s+/);
      return { local, state, inode };
    });
  } catch {
    return [];
  }
}

const MAPPED_IPV4 = '00000000000000000000ffff';

/** `0100007F:0BB8`: words of four bytes in the order of the machine, and the port. */
function parseAddress(local: string): ListeningSocket {
  const [words = '', port = ''] = local.toLowerCase().split(':');
  const hex = words.replace(/(..)(..)(..)(..)/g, '$4$3$2$1');
  const isIpv4 = hex.length === 8 || hex.startsWith(MAPPED_IPV4);
  const host = isIpv4 ? ipv4Of(hex.slice(-8)) : ipv6Of(hex);
  return { host, port: Number.parseInt(port, 16) };
}

function ipv4Of(hex: string): string {
  return (hex.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)).join('.');
}

function ipv6Of(hex: string): string {
  const groups = (hex.match(/..../g) ?? []).join(':');
  return new URL(`http://[${groups}]`).hostname.slice(1, -1);
}

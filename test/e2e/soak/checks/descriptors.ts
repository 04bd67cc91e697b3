/** The open file descriptors of a process, by kind (Linux, /proc). */
import { readdir, readFile, readlink } from 'node:fs/promises';

/** Sockets are classified by the ports that they are bound and connected to. */
export interface KnownPorts {
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
  readonly app: number;
  /** Where the other sidecars listen for this one. */
  readonly otherPeers: readonly number[];
}

export const SOCKET_KINDS = ['listening', 'client', 'app', 'peer', 'admin', 'other TCP'] as const;
type SocketKind = (typeof SOCKET_KINDS)[number];

/** How many there are of each kind. */
export type Descriptors = ReadonlyMap<string, number>;

/** In /proc/net/tcp. */
const LISTEN = '0A';

/** Undefined where the system does not report it. */
export async function readDescriptors(
  pid: number,
  ports: KnownPorts,
): Promise<Descriptors | undefined> {
  if (process.platform !== 'linux') return undefined;
  const [sockets, targets] = await Promise.all([readSockets(pid, ports), readTargets(pid)]);
  const counts = new Map<string, number>();
  for (const target of targets) {
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    const kind = inode === undefined ? kindOf(target) : (sockets.get(inode) ?? 'other socket');
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

async function readTargets(pid: number): Promise<readonly string[]> {
  const directory = `/proc/${pid}/fd`;
  const names = await readdir(directory);
  // A descriptor that was closed meanwhile is not counted.
  const targets = await Promise.all(
    names.map((name) => readlink(`${directory}/${name}`).catch(() => undefined)),
  );
  return targets.filter((target) => target !== undefined);
}

function kindOf(target: string): string {
  if (target.startsWith('/')) return 'file';
  if (target.startsWith('pipe:')) return 'pipe';
  return /^anon_inode:\[?(\w+)/.exec(target)?.[1] ?? target;
}

async function readSockets(
  pid: number,
  ports: KnownPorts,
): Promise<ReadonlyMap<string, SocketKind>> {
  const tables = await Promise.all(
    ['tcp', 'tcp6'].map((name) => readFile(`/proc/${pid}/net/${name}`, 'utf8').catch(() => '')),
  );
  const kinds = new Map<string, SocketKind>();
  for (const line of tables.flatMap((table) => table.split('\n').slice(1))) {
    const [, local, remote, state, , , , , , inode] = line.trim().split(/\s+/);
    if (inode === undefined || inode === '0') continue;
    kinds.set(inode, socketKindOf(portOf(local), portOf(remote), state === LISTEN, ports));
  }
  return kinds;
}

/** `0100007F:1F90` */
function portOf(address = ''): number {
  return parseInt(address.slice(address.indexOf(':') + 1), 16);
}

function socketKindOf(
  local: number,
  remote: number,
  isListening: boolean,
  ports: KnownPorts,
): SocketKind {
  if (isListening) return 'listening';
  if (local === ports.public) return 'client';
  if (remote === ports.app) return 'app';
  if (local === ports.peer || ports.otherPeers.includes(remote)) return 'peer';
  return local === ports.admin ? 'admin' : 'other TCP';
}

/** Resident memory of a process, in bytes: now, and its maximum. */
export async function readResident(
  pid: number,
): Promise<{ readonly now: number; readonly peak: number } | undefined> {
  if (process.platform !== 'linux') return undefined;
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const bytesOf = (name: string): number =>
    1_024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
  return { now: bytesOf('VmRSS'), peak: bytesOf('VmHWM') };
}

/** Connections for forwards, one set for each Machine: its address may be another's tomorrow. */
import type { MachineId } from '../affinity/session.ts';
import type { Clock } from '../clock.ts';
import { createDialer, type Dialer } from '../fleet/dial.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import { dialNotes, type Silences } from '../fleet/silences.ts';
import { createUndiciUpstream, type UndiciUpstream } from './undici-upstream.ts';
import { CONNECT_TIMEOUT_MS, type Upstream } from './upstream.ts';

export interface PeerUpstreams {
  to(peer: Peer): Upstream;
  close(): Promise<void>;
}

export interface PeerUpstreamsOptions {
  readonly directory: Pick<Directory, 'peer'>;
  readonly headTimeoutMs: number;
  readonly clock: Clock;
  /** Told who takes a connection and who does not. */
  readonly silences: Pick<Silences, 'noteSilence' | 'noteLife'>;
}

interface Entry {
  readonly upstream: UndiciUpstream;
  readonly dialer: Dialer;
}

export function createPeerUpstreams(options: PeerUpstreamsOptions): PeerUpstreams {
  const { directory, headTimeoutMs, clock, silences } = options;
  const entries = new Map<MachineId, Entry>();
  const retired = new Set<Entry>();

  function to({ machine, host, port }: Peer): Upstream {
    const known = entries.get(machine);
    if (known) return known.upstream;
    forgetTheGone();
    const dialer = createDialer({
      addressOf: () => directory.peer(machine)?.address,
      timeoutMs: CONNECT_TIMEOUT_MS,
      clock,
      onDialled: dialNotes(silences, machine),
    });
    const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
    const upstream = createUndiciUpstream({ origin, connect: dialer.connect, headTimeoutMs });
    entries.set(machine, { upstream, dialer });
    return upstream;
  }

  function forgetTheGone(): void {
    for (const machine of entries.keys()) if (!directory.peer(machine)) retire(machine);
  }

  /** One reading that lacks a Machine must not cut what is on its way to it. */
  function retire(machine: MachineId): void {
    const entry = entries.get(machine);
    if (!entry) return;
    entries.delete(machine);
    retired.add(entry);
    void entry.upstream.retire().then(() => {
      entry.dialer.close();
      retired.delete(entry);
    });
  }

  async function close(): Promise<void> {
    const all = [...entries.values(), ...retired];
    entries.clear();
    for (const { dialer } of all) dialer.close();
    await Promise.all(all.map(({ upstream }) => upstream.close()));
  }

  return { to, close };
}

/** The peers of one Machine without a network: real claim resolvers respond, or none does. */
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import {
  claimOf,
  outranks,
  type Claimant,
  type ClaimResolver,
} from '../../../src/fleet/claim-resolver.ts';
import type { KeyResponse } from '../../../src/fleet/messages.ts';
import type { AskOptions, OnPeerResponse, Peers, PeerLookup } from '../../../src/fleet/peers.ts';
import type { MachineScript, Surroundings } from './machine.ts';

interface ModelPeersOptions {
  readonly script: MachineScript;
  /** Of this Machine. */
  readonly claimResolver: ClaimResolver;
  readonly reach: Surroundings['reach'];
}

interface ModelPeers extends Pick<Peers, 'ask' | 'announce'> {
  readonly lookups: readonly PeerLookup[];
  readonly announced: ReadonlySet<SessionKey>;
  /** Resolves when every announcement is received and its effects are stored. */
  idle(): Promise<void>;
}

/** Claim fields that the scripted lookup result leaves open. */
const CLAIMED = { origin: 'learned', createdAt: 0 } as const;

export function createModelPeers({ script, claimResolver, reach }: ModelPeersOptions): ModelPeers {
  const { machine: self, lists, scriptedLookup } = script;
  const lookups: PeerLookup[] = [];
  const announced = new Set<SessionKey>();
  const announcing: Promise<void>[] = [];

  async function queryOne(key: SessionKey, other: MachineId): Promise<KeyResponse> {
    return (await reach(self, other)?.claimResolver.onQuery(key, self, undefined)) ?? 'unknown';
  }

  async function queryAll(
    key: SessionKey,
    { onResponse: reportEach, isDryRun }: AskOptions,
  ): Promise<PeerLookup> {
    const onEach: OnPeerResponse = (machine, response) => {
      reportEach?.(machine, response);
      const isClaim = typeof response === 'object' && !response.isPending;
      if (isClaim && !isDryRun) void claimResolver.onAnnouncement(key, machine, response);
    };
    if (scriptedLookup) {
      if (scriptedLookup.kind === 'owner')
        onEach(scriptedLookup.machine, { ...scriptedLookup, ...CLAIMED });
      if (scriptedLookup.kind === 'none') for (const machine of lists) onEach(machine, 'no');
      return scriptedLookup;
    }
    const claimants: Claimant[] = [];
    let isInconclusive = script.isDirectoryFailing;
    for (const machine of lists) {
      const response = await queryOne(key, machine);
      onEach(machine, response);
      if (response === 'unknown') isInconclusive = true;
      else if (response !== 'no') claimants.push({ ...response, machine });
    }
    const [owner] = claimants.sort((one, other) => (outranks(key, one, other) ? -1 : 1));
    if (owner) return { kind: 'owner', ...owner };
    return { kind: isInconclusive ? 'inconclusive' : 'none' };
  }

  async function announceTo(other: MachineId, binding: Binding, ttlMs: number): Promise<void> {
    const ours = claimOf(binding, ttlMs);
    const theirs = await reach(self, other)?.claimResolver.onAnnouncement(binding.key, self, ours);
    const winner = typeof theirs === 'object' && { ...theirs, machine: other };
    if (winner && outranks(binding.key, winner, { ...ours, machine: self })) {
      await claimResolver.onAnnouncement(binding.key, other, winner);
    }
  }

  return {
    lookups,
    announced,
    ask: async (key, how = {}) => {
      const response = await queryAll(key, how);
      lookups.push(response);
      return response;
    },
    announce: (binding, ttlMs) => {
      announced.add(binding.key);
      for (const other of lists) announcing.push(announceTo(other, binding, ttlMs));
    },
    idle: async () => {
      await Promise.all(announcing);
    },
  };
}

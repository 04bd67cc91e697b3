/** The peers of one Machine without a network: real keepers answer, or nobody does. */
import type { Binding, MachineId, SessionKey } from '../../../src/session.ts';
import { claimOf, outranks, type Claimant } from '../../../src/fleet/claims.ts';
import type { ClaimResolver } from '../../../src/fleet/claim-resolver.ts';
import type { KeyResponse } from '../../../src/fleet/messages.ts';
import type { AskOptions, OnPeerResponse, Peers, PeerLookup } from '../../../src/fleet/peers.ts';
import type { MachineScript, Surroundings } from './machine.ts';

export interface ModelPeersOptions {
  readonly script: MachineScript;
  /** Of this Machine. */
  readonly keeper: ClaimResolver;
  readonly reach: Surroundings['reach'];
}

export interface ModelPeers extends Pick<Peers, 'ask' | 'announce'> {
  readonly heard: readonly PeerLookup[];
  readonly announced: ReadonlySet<SessionKey>;
  /** Every announcement was heard, and what came of it is written. */
  settled(): Promise<void>;
}

/** What is left open where the script says who owns every session. */
const CLAIMED = { origin: 'learned', createdAt: 0 } as const;

export function createModelPeers({ script, keeper, reach }: ModelPeersOptions): ModelPeers {
  const { machine: self, lists, told } = script;
  const heard: PeerLookup[] = [];
  const announced = new Set<SessionKey>();
  const announcing: Promise<void>[] = [];

  async function askOne(key: SessionKey, other: MachineId): Promise<KeyResponse> {
    return (await reach(self, other)?.keeper.answerQuery(key, self, undefined)) ?? 'unknown';
  }

  async function askAll(
    key: SessionKey,
    { onResponse: tellEach, isDryRun: isLook }: AskOptions,
  ): Promise<PeerLookup> {
    const onEach: OnPeerResponse = (machine, answer) => {
      tellEach?.(machine, answer);
      const isClaim = typeof answer === 'object' && !answer.isPending;
      if (isClaim && !isLook) void keeper.onAnnouncement(key, machine, answer);
    };
    if (told) {
      if (told.kind === 'owner') onEach(told.machine, { ...told, ...CLAIMED });
      if (told.kind === 'none') for (const machine of lists) onEach(machine, 'no');
      return told;
    }
    const claimants: Claimant[] = [];
    let isInDoubt = script.isDirectoryFailing;
    for (const machine of lists) {
      const answer = await askOne(key, machine);
      onEach(machine, answer);
      if (answer === 'unknown') isInDoubt = true;
      else if (answer !== 'no') claimants.push({ ...answer, machine });
    }
    const [owner] = claimants.sort((one, other) => (outranks(key, one, other) ? -1 : 1));
    if (owner) return { kind: 'owner', ...owner };
    return { kind: isInDoubt ? 'inconclusive' : 'none' };
  }

  async function tell(other: MachineId, binding: Binding, ttlMs: number): Promise<void> {
    const ours = claimOf(binding, ttlMs);
    const theirs = await reach(self, other)?.keeper.onAnnouncement(binding.key, self, ours);
    const winner = typeof theirs === 'object' && { ...theirs, machine: other };
    if (winner && outranks(binding.key, winner, { ...ours, machine: self })) {
      await keeper.onAnnouncement(binding.key, other, winner);
    }
  }

  return {
    heard,
    announced,
    ask: async (key, how = {}) => {
      const answer = await askAll(key, how);
      heard.push(answer);
      return answer;
    },
    announce: (binding, ttlMs) => {
      announced.add(binding.key);
      for (const other of lists) announcing.push(tell(other, binding, ttlMs));
    },
    settled: async () => {
      await Promise.all(announcing);
    },
  };
}

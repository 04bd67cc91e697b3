/**
 * The request's way, top to bottom: facts -> owner -> decision -> reply. The wires (HTTP and
 * WebSocket) differ in how they carry an answer, never in which one.
 */
import {
  decide,
  type Decision,
  type MachineState,
  type NotTaking,
  type Owner,
  type RoutingFacts,
  type Why,
} from '../affinity/decide.ts';
import type { Extract, Extraction, RequestHead } from '../affinity/extract.ts';
import { refusalFor, type Refusal, type RefusalStatus } from '../affinity/refuse.ts';
import type { Binding, MachineId, SessionId, SessionKey } from '../affinity/session.ts';
import type { Directory, Peer } from '../fleet/directory.ts';
import { formatReplay, parseReplayCacheStatus } from '../fly.ts';
import type { HeadFields } from './headers.ts';
import type { OwnerFinder, Ownership } from './owner.ts';

/** One request, as its wire shows it, and what a wire can do with it. */
export interface Wire {
  readonly from: 'edge' | 'peer';
  /** As the client sent it, hints included. */
  readonly head: RequestHead;
  readonly fields: HeadFields;
  /** Answers in our own name. */
  reply(answer: Refusal, routed: Routed): void;
  /** Hands the request to the app. */
  toUpstream(routed: Routed): void;
  /** Hands the request to the sidecar of another Machine, hints and all. */
  toPeer(peer: Peer, routed: Routed): void;
}

/** Where a request goes and why, and what its answer may teach. */
export interface Routed {
  readonly decision: Decision;
  readonly extraction: Extraction;
  readonly key: SessionKey | undefined;
  /** Whose session it is, where that is known. */
  readonly owner: MachineId | undefined;
  readonly binding: Binding | undefined;
  /** Set if the app gets the id as it is: what looks like a hint belongs to it. */
  readonly wholeId: SessionId | undefined;
}

export interface HandlerParts {
  readonly self: MachineId;
  readonly extract: Extract;
  readonly owners: OwnerFinder;
  readonly directory: Pick<Directory, 'others' | 'peer'>;
  /** Why new sessions are to go elsewhere just now, if they are. */
  readonly notTaking: () => NotTaking | undefined;
  readonly policy: Pick<MachineState, 'ownerGone' | 'unknownSession'>;
  readonly replayTimeoutMs: number;
  readonly replayMaxBodyBytes: number;
  readonly onDecided: (decision: Decision) => void;
}

export interface Handler {
  handle(wire: Wire): void;
  /** Refuses a request that can't be understood, in the same form as every other answer. */
  refuse(wire: Wire, why: Why): void;
  /** A forward found nobody: 503, the binding untouched, as silence proves nothing (invariant 11). */
  unreachable(wire: Wire, routed: Routed): void;
  /**
   * The app has refused a request, so this Machine takes no new ones now: one without an id is
   * decided again, and goes to another Machine if it may. Says whether it does.
   */
  sendElsewhere(wire: Wire, routed: Routed): boolean;
}

const NOBODY: Owner = { kind: 'none' };
/** What went wrong on the way to an answer is no answer (invariant 11). */
const UNCERTAIN: Owner = { kind: 'inconclusive', mayBeOurs: true };
/** Rather a replay that the edge makes than one more round trip of ours: the status is thrown away. */
const REPLAY_STATUS = 307;
const MAX_KEPT_REPLAYS = 256;

export function createHandler(parts: HandlerParts): Handler {
  const { self, extract, owners, directory, onDecided } = parts;
  const replays = new Map<MachineId, Refusal>();

  function handle(wire: Wire): void {
    const extraction = extract(wire.head);
    if (extraction.kind === 'conflict') {
      refuse(wire, 'conflicting-ids');
      return;
    }
    if (extraction.kind === 'none') {
      settle(wire, extraction, factsOf(wire, extraction), undefined);
      return;
    }
    const facts = factsOf(wire, extraction);
    const ownership = owners.find(extraction, facts);
    if (ownership instanceof Promise) {
      const onFound = (known: Ownership | undefined): void =>
        settle(wire, extraction, facts, known);
      void ownership.then(onFound, () => onFound(undefined));
      return;
    }
    settle(wire, extraction, facts, ownership);
  }

  function factsOf(wire: Wire, extraction: Extraction): RoutingFacts {
    const { fields } = wire;
    const isFound = extraction.kind === 'found';
    return {
      from: wire.from,
      hasId: isFound,
      mintedBy: isFound ? extraction.protocol.mintedBy : 'app',
      wasReplayed: fields.replaySource !== undefined,
      cameBackByFallback: fields.replayFailed !== undefined,
      isFromReplayCache:
        fields.replayCacheStatus !== undefined &&
        parseReplayCacheStatus(fields.replayCacheStatus) === 'hit',
      isReplayable: isReplayable(fields),
    };
  }

  /** Fly Proxy replays bodies up to 1 MB, and must know their length beforehand. */
  function isReplayable({ transferEncoding, contentLength }: HeadFields): boolean {
    if (transferEncoding !== undefined) return false;
    return contentLength === undefined || Number(contentLength) <= parts.replayMaxBodyBytes;
  }

  function settle(
    wire: Wire,
    extraction: Extraction,
    facts: RoutingFacts,
    ownership: Ownership | undefined,
  ): void {
    const owner = ownership?.owner ?? (facts.hasId ? UNCERTAIN : NOBODY);
    const decision = decide(facts, owner, stateNow());
    act(wire, {
      decision,
      extraction,
      key: ownership?.key,
      owner: owner.kind === 'machine' ? owner.machine : undefined,
      binding: ownership?.binding,
      wholeId: ownership?.wholeId,
    });
  }

  function stateNow(): MachineState {
    return {
      self,
      notTaking: parts.notTaking(),
      hasOtherMachines: directory.others().length > 0,
      ownerGone: parts.policy.ownerGone,
      unknownSession: parts.policy.unknownSession,
    };
  }

  function act(wire: Wire, routed: Routed): void {
    const { decision } = routed;
    onDecided(decision);
    switch (decision.kind) {
      case 'local':
        wire.toUpstream(routed);
        break;
      case 'replay':
        wire.reply(replayTo(decision.to, decision.invalidatesCache), routed);
        break;
      case 'elsewhere':
        wire.reply(replayElsewhere(), routed);
        break;
      case 'forward': {
        const peer = directory.peer(decision.to);
        if (peer) wire.toPeer(peer, routed);
        else unreachable(wire, routed);
        break;
      }
      case 'refuse':
        wire.reply(refusal(decision.status, decision.why, routed.extraction), routed);
        break;
    }
  }

  /** The same few texts again and again; a client may name any Machine, so not all are kept. */
  function replayTo(machine: MachineId, invalidatesCache: boolean): Refusal {
    const known = invalidatesCache ? undefined : replays.get(machine);
    if (known) return known;
    const made = makeReplayTo(machine, invalidatesCache);
    if (!invalidatesCache && replays.size < MAX_KEPT_REPLAYS) replays.set(machine, made);
    return made;
  }

  function makeReplayTo(machine: MachineId, invalidatesCache: boolean): Refusal {
    const instruction = {
      instance: machine,
      timeoutMs: parts.replayTimeoutMs,
      fallback: 'prefer_self',
    } as const;
    return replay(formatReplay(instruction), invalidatesCache);
  }

  function replayElsewhere(): Refusal {
    const instruction = {
      isElsewhere: true,
      timeoutMs: parts.replayTimeoutMs,
      fallback: 'force_self',
    } as const;
    return replay(formatReplay(instruction), false);
  }

  function refuse(wire: Wire, why: Why): void {
    const decision: Decision = { kind: 'refuse', status: 400, why };
    act(wire, { ...UNROUTED, decision });
  }

  function unreachable(wire: Wire, routed: Routed): void {
    wire.reply(refusal(503, routed.decision.why, routed.extraction), routed);
  }

  function sendElsewhere(wire: Wire, routed: Routed): boolean {
    if (routed.extraction.kind !== 'none') return false;
    const decision = decide(factsOf(wire, routed.extraction), NOBODY, stateNow());
    if (decision.kind !== 'elsewhere') return false;
    act(wire, { ...routed, decision });
    return true;
  }

  return { handle, refuse, unreachable, sendElsewhere };
}

const UNROUTED = {
  extraction: { kind: 'none' },
  key: undefined,
  owner: undefined,
  binding: undefined,
  wholeId: undefined,
} as const satisfies Omit<Routed, 'decision'>;

function replay(instruction: string, invalidatesCache: boolean): Refusal {
  const headers = ['fly-replay', instruction];
  if (invalidatesCache) headers.push('fly-replay-cache', 'invalidate');
  return { status: REPLAY_STATUS, headers, body: '' };
}

function refusal(status: RefusalStatus, why: Why, extraction: Extraction): Refusal {
  return refusalFor(status, why, extraction.kind === 'found' ? extraction.protocol : undefined);
}

/**
 * Opens sessions in a deployment, and makes calls in them, each on a new connection: Fly Proxy chooses the Machine.
 * Where two Machines or more are known, some requests ask Fly Proxy for one (`fly-prefer-instance-id`): then a call
 * certainly arrives at its session's own Machine, or at another one.
 */
import type { Exchange, ProbeClient, ProbeRequest } from '../../probe/http-client.ts';
import type { Call, Opening, Probe, ProbeSession } from '../../probe/probe.ts';
import { parseMachineId, type MachineId } from '../../session.ts';

export interface CheckLimits {
  readonly sessions: number;
  /** In each session. */
  readonly calls: number;
}

interface CheckParts {
  readonly client: ProbeClient;
  readonly probe: Probe;
  readonly limits: CheckLimits;
  /** The Machines to send requests to in turn; with none, Fly Proxy chooses. */
  readonly machines: readonly MachineId[];
  /** Aborts: no new request is made, except those that end sessions. */
  readonly stopping: AbortSignal;
}

/** To whom a call was sent first: a replay may have followed. */
export type Recipient = 'any' | 'own' | 'other';

export interface CheckedCall extends Call {
  /** The index of the session. */
  readonly session: number;
  readonly recipient: Recipient;
}

export interface CheckedSessions {
  readonly openings: readonly Opening[];
  readonly calls: readonly CheckedCall[];
  /** The Machines that own the sessions, as owner hints and affinity cookies name them. */
  readonly owners: readonly MachineId[];
  /** Whether time or a signal ended it early. */
  readonly isCutShort: boolean;
}

/** Sessions in which calls are made at the same time. */
export const CONCURRENCY = 4;
/** Of each session: one to its own Machine, and one to another. */
export const CALLS_TO_KNOWN_MACHINES = 2;

interface OpenedSession {
  readonly index: number;
  readonly session: ProbeSession;
  /** The Machine that has the session, if that is known. */
  readonly owner: MachineId | undefined;
  /** The Machine to ask for from now on. */
  readonly steer: (to: MachineId | undefined) => void;
}

/** Never rejects. */
export async function checkSessions(parts: CheckParts): Promise<CheckedSessions> {
  const { limits, machines, stopping } = parts;
  const openings: Opening[] = [];
  const opened: OpenedSession[] = [];
  const calls: CheckedCall[] = [];
  let isCutShort = false;
  const unlessStopped = async (work: () => Promise<void>): Promise<void> => {
    if (stopping.aborted) isCutShort = true;
    else await work();
  };
  const callAll = (machinesFor: MachinesFor): Promise<void> =>
    inParallel(opened, async (session) => {
      for (const to of machinesFor(session)) {
        await unlessStopped(async () => void calls.push(await callAt(session, to)));
      }
    });

  const indexes = Array.from({ length: limits.sessions }, (_, index) => index);
  await inParallel(indexes, (index) =>
    unlessStopped(async () => {
      const { opening, session } = await openOne(index, parts);
      openings.push(opening);
      if (session) opened.push(session);
    }),
  );
  for (let round = 1; round <= limits.calls; round += 1) {
    await callAll(({ index }) => [inTurn(machines, index + round)]);
  }
  const owners = ownersOf(opened);
  if (machines.length === 0) await callAll((session) => ownAndOther(session, owners));
  await inParallel(opened, ({ session }) => session.close());
  return { openings, calls, owners, isCutShort };
}

/** To which Machines calls in the session go; undefined: Fly Proxy chooses. */
type MachinesFor = (session: OpenedSession) => readonly (MachineId | undefined)[];

async function openOne(
  index: number,
  { client, probe, machines }: CheckParts,
): Promise<{ readonly opening: Opening; readonly session: OpenedSession | undefined }> {
  let preferred = inTurn(machines, index);
  const opening = await probe.open(steeredClient(client, () => preferred));
  if (opening.kind !== 'opened') return { opening, session: undefined };
  const { session } = opening;
  const owner = ownerIn(session.opened) ?? preferred;
  const steer = (to: MachineId | undefined): void => void (preferred = to);
  return { opening, session: { index, session, owner, steer } };
}

function inTurn(machines: readonly MachineId[], index: number): MachineId | undefined {
  return machines.length === 0 ? undefined : machines[index % machines.length];
}

/** Fly.io, "Dynamic Request Routing": that Machine if possible. */
const PREFERENCE_HEADER = 'fly-prefer-instance-id';

function steeredClient(client: ProbeClient, machine: () => MachineId | undefined): ProbeClient {
  const steered = (request: ProbeRequest): ProbeRequest => {
    const preferred = machine();
    if (preferred === undefined) return request;
    return { ...request, headers: { ...request.headers, [PREFERENCE_HEADER]: preferred } };
  };
  return {
    ...client,
    send: (request) => client.send(steered(request)),
    open: (request) => client.open(steered(request)),
  };
}

/** What Fly.io names a Machine, behind an id as owner hint, or in an affinity cookie. */
const OWNER = /~([0-9a-f]{14})\b|=([0-9a-f]{14})\.[0-9a-z]+(?:;|$)/;

/** The sidecar names the owner in each id that the app mints, and in the affinity cookie. */
function ownerIn(exchange: Exchange): MachineId | undefined {
  if (exchange.kind === 'no-response') return undefined;
  const texts = [...Object.values(exchange.headers).flat(), exchange.body];
  for (const text of texts) {
    const [, hinted, named] = OWNER.exec(text ?? '') ?? [];
    const machine = parseMachineId(hinted ?? named ?? '');
    if (machine) return machine;
  }
  return undefined;
}

function ownersOf(opened: readonly OpenedSession[]): MachineId[] {
  const owners = opened.flatMap(({ session }) => ownerIn(session.opened) ?? []);
  return [...new Set(owners)].sort();
}

/** Every other session calls the other Machine first, so that neither has an advantage. None if there is no other. */
function ownAndOther(
  { index, owner }: OpenedSession,
  owners: readonly MachineId[],
): readonly MachineId[] {
  const others = owners.filter((machine) => machine !== owner);
  const other = inTurn(others, index);
  if (owner === undefined || other === undefined) return [];
  return index % 2 === 0 ? [owner, other] : [other, owner];
}

async function callAt(opened: OpenedSession, to: MachineId | undefined): Promise<CheckedCall> {
  const { index, session, owner, steer } = opened;
  steer(to);
  const call = await session.call();
  const recipient = to === undefined ? 'any' : to === owner ? 'own' : 'other';
  return { ...call, session: index, recipient };
}

/** In that order, {@link CONCURRENCY} at a time. */
async function inParallel<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const workThrough = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, workThrough));
}

/** Which Machines may get a request, in the order in which the edge tries them. Pure. */
import type { MachineId } from '../session.ts';
import type { ReplayInstruction } from '../fly.ts';
import type { EdgeErrorCode } from './records.ts';

/**
 * A request starts `stopped` and `suspended` Machines; `stopping` and `starting` ones are in transition;
 * `destroyed` ones no longer exist.
 */
export type LifecycleState =
  'starting' | 'started' | 'stopping' | 'stopped' | 'suspended' | 'destroyed';

/** A Machine as the edge sees it. */
export interface EdgeMachine {
  readonly id: MachineId;
  readonly app: string;
  readonly region: string;
  readonly state: LifecycleState;
  /** When it stopped, in ms since the epoch; undefined while it runs. */
  readonly stoppedAt?: number | undefined;
  /** The port of its service, on 127.0.0.1. */
  readonly port: number;
  /** Starts or resumes it; resolves when it listens on its port. Rejects if that fails. */
  wake(): Promise<void>;
}

/** The requirements on the Machine that gets the request. */
export interface Target {
  readonly app: string;
  /** Only this Machine. */
  readonly instance?: string;
  /** This Machine first. */
  readonly preferInstance?: string;
  /** In the order of preference; `any` stands for all others. */
  readonly regions?: readonly string[];
  /** Not this one. */
  readonly except?: MachineId;
}

type TargetCandidates =
  | { readonly kind: 'found'; readonly machines: readonly EdgeMachine[] }
  | { readonly kind: 'none'; readonly code: EdgeErrorCode };

/** Orders Machines that are all acceptable. */
export type Order = (machines: readonly EdgeMachine[]) => EdgeMachine[];

/** Reasons to prefer another Machine. */
export interface Reluctance {
  /** At its hard limit. */
  readonly isFull: (machine: EdgeMachine) => boolean;
  /** It gets the request only if no other Machine can. */
  readonly isPassedOver: (machine: EdgeMachine) => boolean;
}

const ANY_REGION = 'any';

/** In the order of preference. */
const WAKEABLE: readonly LifecycleState[] = ['starting', 'suspended', 'stopped'];

export function candidatesFor(
  target: Target,
  all: readonly EdgeMachine[],
  order: Order,
  { isFull, isPassedOver }: Reluctance,
): TargetCandidates {
  const existing = all.filter(({ state }) => state !== 'destroyed');
  const ofApp = existing.filter(({ app }) => app === target.app);
  if (ofApp.length === 0) return { kind: 'none', code: all.length === 0 ? 'PR01' : 'PA04' };
  const named = target.instance;
  if (named !== undefined)
    return foundOr(
      'PR02',
      ofApp.filter(({ id }) => id === named),
    );
  const allowed = ofApp.filter(({ id }) => id !== target.except);
  const groups = groupsByRegion(allowed, target.regions);
  const preferred = groups.flat().filter(({ id }) => id === target.preferInstance);
  const inOrder = [...new Set([...preferred, ...awakeFirst(groups, order, isFull)])];
  const others = inOrder.filter((machine) => !isPassedOver(machine));
  return foundOr('PR04', others.length > 0 ? others : inOrder);
}

/** The target of the first hop: the routing headers that clients may send. */
export function targetOfRequest(app: string, headers: NodeJS.Dict<string | string[]>): Target {
  const header = (name: string): string | undefined => headers[name]?.toString();
  const instance = header('fly-force-instance-id');
  const preferInstance = header('fly-prefer-instance-id');
  const forced = header('fly-force-region');
  const preferred = header('fly-prefer-region');
  const regions = forced ?? (preferred === undefined ? undefined : `${preferred},${ANY_REGION}`);
  return {
    app,
    ...(instance !== undefined && { instance }),
    ...(preferInstance !== undefined && { preferInstance }),
    ...(regions !== undefined && { regions: listOf(regions) }),
  };
}

export function targetOfReplay(
  { instance, preferInstance, region, app, isElsewhere }: ReplayInstruction,
  issuer: EdgeMachine,
): Target {
  return {
    app: app ?? issuer.app,
    ...(instance !== undefined && { instance }),
    ...(preferInstance !== undefined && { preferInstance }),
    ...(region !== undefined && { regions: listOf(region) }),
    ...(isElsewhere && { except: issuer.id }),
  };
}

function foundOr(code: EdgeErrorCode, machines: readonly EdgeMachine[]): TargetCandidates {
  return machines.length === 0 ? { kind: 'none', code } : { kind: 'found', machines };
}

/** The Machines of the first region, then of the second, and so on. */
function groupsByRegion(
  machines: readonly EdgeMachine[],
  regions: readonly string[] = [ANY_REGION],
): (readonly EdgeMachine[])[] {
  return regions.map((region) =>
    region === ANY_REGION ? machines : machines.filter((machine) => machine.region === region),
  );
}

/**
 * Prefers running Machines that are not full, then suspended, then stopped ones. If all are full, the
 * request waits for a free slot.
 */
function awakeFirst(
  groups: readonly (readonly EdgeMachine[])[],
  order: Order,
  isFull: Reluctance['isFull'],
): EdgeMachine[] {
  const inState = (group: readonly EdgeMachine[], state: LifecycleState): EdgeMachine[] =>
    group.filter((machine) => machine.state === state);
  const started = groups.flatMap((group) => order(inState(group, 'started')));
  const free = started.filter((machine) => !isFull(machine));
  if (free.length > 0) return free;
  const wakeable = WAKEABLE.flatMap((state) => groups.flatMap((group) => inState(group, state)));
  return wakeable.length > 0 ? wakeable : started;
}

function listOf(regions: string): string[] {
  return regions
    .split(',')
    .map((region) => region.trim())
    .filter((region) => region !== '');
}

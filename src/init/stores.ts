/** Chooses where the sidecar keeps which Machine has which session. */
import { posix } from 'node:path';
import { NEW_SOURCE, storePathOn } from '../doctor/deployment.ts';
import type { FlyToml } from '../doctor/fly-toml.ts';
import { mountOf } from '../doctor/process-groups.ts';

export const STORES = ['existing', 'volume', 'shared', 'memory'] as const;

/**
 * `existing`: a file on a volume that the app has; `volume`: a file on a new one; `shared`: a database; `memory`:
 * nothing that lasts.
 */
export type Store = (typeof STORES)[number];

/** The folder of a new volume, unless the image has something there, which the volume would hide. */
const NEW_FOLDERS = ['/data', '/var/lib/fly-affinity'] as const;

const FILE = 'session-store.sqlite';

type StorePlan =
  | { readonly kind: 'existing'; readonly path: string; readonly destination: string }
  | { readonly kind: 'volume'; readonly path: string; readonly destination: string }
  | { readonly kind: 'shared' | 'memory' };

interface StoreFacts {
  readonly toml: FlyToml;
  readonly groups: readonly string[];
  /** Whether the sidecar's user can get a folder on a fresh volume, which belongs to root. */
  readonly canOwnVolume: boolean;
  readonly mentions: (folder: string) => boolean;
}

export interface StoreChoice {
  readonly plan: StorePlan;
  /** A sentence. */
  readonly why: string;
}

/** `asked`: undefined for the best. A string: why what is asked is not possible. */
export function chooseStore(asked: Store | undefined, facts: StoreFacts): StoreChoice | string {
  const { toml, groups, canOwnVolume } = facts;
  const mounts = groups.map((group) => mountOf(toml, group)?.destination);
  const [existing] = mounts;
  const isEverywhere = mounts.every((destination) => destination === existing);
  const hasSome = mounts.some((destination) => destination !== undefined);
  switch (asked ?? bestStore(hasSome && isEverywhere, hasSome, canOwnVolume)) {
    case 'existing':
      if (existing === undefined || !isEverywhere)
        return 'fly.toml has no volume for every Machine with a sidecar';
      return existingVolume(existing, facts);
    case 'volume':
      if (hasSome)
        return 'fly.toml has a volume already, and a Machine can have only one: use --store existing';
      if (!canOwnVolume)
        return 'the user of the image cannot write to a fresh volume, which belongs to root';
      return newVolume(facts);
    case 'shared':
      return {
        plan: { kind: 'shared' },
        why: 'Machines share a database, whose URL you set as a secret.',
      };
    case 'memory':
      return { plan: { kind: 'memory' }, why: whyMemory(canOwnVolume) };
  }
}

function bestStore(isExisting: boolean, hasSome: boolean, canOwnVolume: boolean): Store {
  if (isExisting) return 'existing';
  return hasSome || !canOwnVolume ? 'memory' : 'volume';
}

function existingVolume(destination: string, facts: StoreFacts): StoreChoice {
  const path = pathOnExisting(destination, facts);
  const mustWrite = facts.canOwnVolume
    ? ''
    : ', which the user of the image has to be able to write there';
  return {
    plan: { kind: 'existing', path, destination },
    why: `The volume at ${destination} stays as it is; the store is a file on it${mustWrite}.`,
  };
}

function pathOnExisting(destination: string, { toml, groups, canOwnVolume }: StoreFacts): string {
  const isForStore = groups.every((group) => mountOf(toml, group)?.source === NEW_SOURCE);
  if (isForStore) return posix.join(destination, FILE);
  return canOwnVolume ? storePathOn(destination) : posix.join(destination, 'fly-affinity.sqlite');
}

function newVolume({ mentions }: StoreFacts): StoreChoice {
  const destination = NEW_FOLDERS.find((folder) => !mentions(folder)) ?? NEW_FOLDERS[1];
  return {
    plan: { kind: 'volume', path: posix.join(destination, FILE), destination },
    why: `A new volume of 1 GB for each Machine, at ${destination}, has the file of the store.`,
  };
}

function whyMemory(canOwnVolume: boolean): string {
  const text =
    'The store is in memory: a Machine that restarts asks the others where a session is.';
  if (canOwnVolume) return text;
  return `${text} (A fresh volume belongs to root, and the user of the image can't get a folder there. --store shared keeps it in a database.)`;
}

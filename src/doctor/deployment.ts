/** Checks how a deploy replaces Machines: whether sessions and their store survive it. */
import { dirname, posix } from 'node:path';
import type { Config } from '../config/config.ts';
import { PREFIX } from '../config/environment.ts';
import type { Change } from './change.ts';
import { defaultGroup, groupsOf, groupsServedBy, mountOf, processesFor } from './process-groups.ts';
import { error, fixable, note, ok, type Finding } from './report.ts';
import type { FlyToml } from './fly-toml.ts';
import { sidecarServices } from './service.ts';

export function checkDeployment(toml: FlyToml, config: Config): Finding[] {
  return [
    ...checkStrategy(toml, config),
    ...checkMounts(toml, config),
    ...checkGroups(toml),
    ...checkContainers(toml),
  ];
}

const ROLLING: readonly Change[] = [{ path: ['deploy', 'strategy'], value: 'rolling' }];

function checkStrategy({ strategy, mounts }: FlyToml, config: Config): Finding[] {
  switch (strategy) {
    case 'bluegreen':
    case 'canary':
      if (mounts.length > 0) {
        return [
          fixable(
            'error',
            `The deploy strategy is "${strategy}" and fly.toml has [mounts].`,
            `Fly.io does not support both: a volume belongs to one Machine, and ${strategy} starts new ones.`,
            ROLLING,
          ),
        ];
      }
      return strategy === 'bluegreen' ? [warnOfNewIds(config)] : [keepsIds(strategy)];
    case 'immediate':
      return [
        fixable(
          'warning',
          'The deploy strategy is "immediate": a deploy replaces all Machines at once.',
          'All Machines drain at the same time, and none can take new sessions.',
          ROLLING,
        ),
      ];
    default:
      return [keepsIds(strategy ?? 'rolling')];
  }
}

function keepsIds(strategy: string): Finding {
  return ok(`A deploy keeps the ids of the Machines (${strategy}).`);
}

function warnOfNewIds(config: Config): Finding {
  return fixable(
    'warning',
    'The deploy strategy is "bluegreen": each deploy creates Machines with new ids.',
    'Sessions that the app holds in memory are lost with the old Machines: their clients get ' +
      `"session not found".${usesFile(config) ? ' The SQLite file is lost too.' : ''}`,
    ROLLING,
    usesFile(config) ? 'or set SESSION_STORE_URL to a database, as a secret' : undefined,
  );
}

/** An existing mount is never changed: its volume may hold the data of the app. */
function checkMounts(toml: FlyToml, config: Config): Finding[] {
  if (!usesFile(config)) return [];
  const { path } = config.store;
  const groups = groupsServedBy(toml, sidecarServices(toml, config));
  return groups.flatMap((group) => {
    const of = toml.processGroups.length > 1 ? ` of the group ${group}` : '';
    const { destination } = mountOf(toml, group) ?? {};
    if (mountOf(toml, group) === undefined) return [warnOfNoVolume(toml, group, of, path)];
    if (destination !== undefined && isUnder(path, destination)) {
      return [ok(`The session store ${path} is on the volume${of}.`)];
    }
    if (destination === undefined) return [];
    return [
      fixable(
        'error',
        `SESSION_STORE_PATH is ${path}, but the volume${of} is mounted at ${destination}.`,
        'The file is on the root disk, which every deploy recreates. Keep the mount: the app may have its data there.',
        [{ path: ['env', `${PREFIX}SESSION_STORE_PATH`], value: storePathOn(destination) }],
      ),
    ];
  });
}

/** In a folder of its own, which can have another owner than what the app keeps there. */
export function storePathOn(destination: string): string {
  return posix.join(destination, 'fly-affinity', 'session-store.sqlite');
}

function warnOfNoVolume(toml: FlyToml, group: string, of: string, path: string): Finding {
  const what = `The session store is the file ${path}, but fly.toml has no [mounts]${of === '' ? '' : ` for the group ${group}`}.`;
  const why =
    'The file is on the root disk, which every deploy recreates: a Machine loses its session records.';
  const mount = newMount(toml, [group], dirname(path));
  const or = 'or set SESSION_STORE_URL to a database, as a secret';
  return fixable('warning', what, why, [mount], or);
}

/** The name of a volume for the store. */
export const NEW_SOURCE = 'sessions';

/** A volume for the store alone; groups that have one keep it. */
function newMount(toml: FlyToml, groups: readonly string[], destination: string): Change {
  const mount = { source: NEW_SOURCE, destination, initial_size: '1gb' };
  const value = { ...mount, ...processesFor(toml, groups) };
  return { path: toml.mounts.length === 0 ? ['mounts'] : ['mounts', toml.mounts.length], value };
}

function usesFile({ store }: Config): boolean {
  return store.isEnabled && store.url === undefined;
}

function isUnder(path: string, directory: string): boolean {
  const relative = posix.relative(directory, path);
  return !relative.startsWith('..') && !posix.isAbsolute(relative);
}

function checkGroups(toml: FlyToml): Finding[] {
  const { processGroups, services, mounts } = toml;
  const unknown = [...services, ...mounts]
    .flatMap(({ processes }) => processes)
    .filter((group) => processGroups.length > 0 && !processGroups.includes(group));
  if (unknown.length > 0) {
    return [
      error(
        `The process group ${[...new Set(unknown)].join(', ')} is not in [processes].`,
        'No Machine belongs to that group, so its settings have no effect.',
        `processes = ["${processGroups.join('" or "')}"]`,
      ),
    ];
  }
  return [...checkSharedService(toml), ...checkDefaultGroup(toml)];
}

function checkSharedService(toml: FlyToml): Finding[] {
  const isShared = toml.services.some(({ processes }) => groupsOf(toml, processes).length > 1);
  if (!isShared) return [];
  return [
    note(
      'One service has several process groups.',
      'Each group is a fleet of its own: Machines cannot look up sessions of another group, only follow owner hints.',
      'one service per group, with processes = ["..."]',
    ),
  ];
}

function checkDefaultGroup(toml: FlyToml): Finding[] {
  const { processGroups, services } = toml;
  if (processGroups.length < 2 || processGroups.includes('app')) return [];
  if (!services.some(({ processes }) => processes.length === 0)) return [];
  const group = defaultGroup(toml);
  return [
    note(
      `A service names no process group, so Fly.io gives it to ${group}.`,
      'Without a group named app, that is the first by its name.',
      `processes = ["${group}"], if that is the one`,
    ),
  ];
}

function checkContainers({ containers }: FlyToml): Finding[] {
  if (containers === undefined) return [];
  const file = containers === 'compose' ? '[build.compose]' : 'machine_config';
  return [
    note(
      `A Machine has several containers (${file}).`,
      'They share the network. The sidecar is a container of its own there, and gets its settings from that file; the volume has to be mounted into it.',
      'see "As a second container" in fly-affinity help operations',
    ),
  ];
}

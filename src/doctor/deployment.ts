/** Checks how a deploy replaces Machines, and whether sessions and their store survive it. */
import { dirname, posix } from 'node:path';
import type { Config } from '../config/config.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
import type { FlyToml } from './fly-toml.ts';

export function checkDeployment(toml: FlyToml, config: Config): Finding[] {
  return [...checkStrategy(toml, config), ...checkMounts(toml, config), ...checkGroups(toml)];
}

const ROLLING = '[deploy]\n  strategy = "rolling"';

function checkStrategy({ strategy, mounts }: FlyToml, config: Config): Finding[] {
  switch (strategy) {
    case 'bluegreen':
      if (mounts.length > 0) {
        return [
          error(
            'The deploy strategy is "bluegreen" and fly.toml has [mounts].',
            'Fly.io does not support both: a volume belongs to one Machine, and bluegreen starts new ones.',
            ROLLING,
          ),
        ];
      }
      return [warnOfNewIds(config)];
    case 'immediate':
      return [
        warning(
          'The deploy strategy is "immediate": a deploy replaces all Machines at once.',
          'All Machines drain at the same time, and none can take new sessions.',
          ROLLING,
        ),
      ];
    default:
      return [ok(`A deploy keeps the ids of the Machines (${strategy ?? 'rolling'}).`)];
  }
}

function warnOfNewIds(config: Config): Finding {
  return warning(
    'The deploy strategy is "bluegreen": each deploy creates Machines with new ids.',
    'Sessions that the app holds in memory are lost with the old Machines: their clients get ' +
      `"session not found".${usesFile(config) ? ' The SQLite file is lost too.' : ''}`,
    usesFile(config) ? `${ROLLING}\nor set SESSION_STORE_URL to a database, as a secret` : ROLLING,
  );
}

function checkMounts({ mounts }: FlyToml, config: Config): Finding[] {
  if (!usesFile(config)) return [];
  const { path } = config.store;
  if (mounts.length === 0) return [warnOfNoVolume(path)];
  const destinations = mounts.flatMap(({ destination }) => destination ?? []);
  const isOnVolume = destinations.some((destination) => isUnder(path, destination));
  if (isOnVolume) return [ok(`The session store ${path} is on a volume.`)];
  return [
    error(
      `SESSION_STORE_PATH is ${path}, but the volume is mounted at ${destinations.join(', ') || 'no destination'}.`,
      'The file is on the root disk, which every deploy recreates.',
      mountLines(path),
    ),
  ];
}

function warnOfNoVolume(path: string): Finding {
  return warning(
    `The session store is the file ${path}, but fly.toml has no [mounts].`,
    'The file is on the root disk, which every deploy recreates: a Machine loses its session records.',
    `${mountLines(path)}\nor set SESSION_STORE_URL to a database, as a secret`,
  );
}

function mountLines(path: string): string {
  return `[mounts]\n  source = "sessions"\n  destination = "${dirname(path)}"\n  initial_size = "1gb"`;
}

function usesFile({ store }: Config): boolean {
  return store.isEnabled && store.url === undefined;
}

function isUnder(path: string, directory: string): boolean {
  const relative = posix.relative(directory, path);
  return !relative.startsWith('..') && !posix.isAbsolute(relative);
}

/** A fleet never spans process groups. */
function checkGroups({ processGroups, services, mounts }: FlyToml): Finding[] {
  const served = services.map(({ processes }) => processes);
  const unknown = [...served, ...mounts.map(({ processes }) => processes)]
    .flat()
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
  const isShared = served.some((groups) => (groups.length || processGroups.length) > 1);
  if (!isShared) return [];
  return [
    note(
      'One service has several process groups.',
      'Each group is a fleet of its own: Machines can not look up sessions of another group, only follow owner hints.',
      'one service per group, with processes = ["..."]',
    ),
  ];
}

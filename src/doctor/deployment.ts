/** How a deploy replaces Machines, and what it leaves of the sessions and their store. */
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
            'The deploy strategy is "bluegreen", and there are [mounts].',
            'Fly.io can not have both: the new Machine would need the volume that the old one holds.',
            ROLLING,
          ),
        ];
      }
      return [warnOfNewIds(config)];
    case 'immediate':
      return [
        warning(
          'The deploy strategy is "immediate": all Machines are replaced at once.',
          'All of them drain at the same time, so that nobody is there who could take new sessions.',
          ROLLING,
        ),
      ];
    default:
      return [
        ok(`Machines keep their ids when a deploy replaces them (${strategy ?? 'rolling'}).`),
      ];
  }
}

function warnOfNewIds(config: Config): Finding {
  return warning(
    'The deploy strategy is "bluegreen": each deploy brings Machines with new ids.',
    'Whatever an app keeps in memory is gone with the old ones, and its sessions are answered as ' +
      `those of an owner that is gone.${keepsFile(config) ? ' The SQLite file is gone as well.' : ''}`,
    keepsFile(config) ? `${ROLLING}\nor set SESSION_STORE_URL to a database, as a secret` : ROLLING,
  );
}

function checkMounts({ mounts }: FlyToml, config: Config): Finding[] {
  if (!keepsFile(config)) return [];
  const { path } = config.store;
  if (mounts.length === 0) return [warnOfNoVolume(path)];
  const destinations = mounts.flatMap(({ destination }) => destination ?? []);
  const isOnVolume = destinations.some((destination) => isUnder(path, destination));
  if (isOnVolume) return [ok(`The session store ${path} is on a volume.`)];
  return [
    error(
      `SESSION_STORE_PATH is ${path}, and the volume is at ${destinations.join(', ') || 'no destination'}.`,
      'The file is on the root disk then, which is made anew with every deploy.',
      mountLines(path),
    ),
  ];
}

function warnOfNoVolume(path: string): Finding {
  return warning(
    `There are no [mounts], and the session store is the file ${path}.`,
    'It is on the root disk then, which is made anew with every deploy: a Machine forgets its own sessions.',
    `${mountLines(path)}\nor set SESSION_STORE_URL to a database, as a secret`,
  );
}

function mountLines(path: string): string {
  return `[mounts]\n  source = "sessions"\n  destination = "${dirname(path)}"\n  initial_size = "1gb"`;
}

function keepsFile({ store }: Config): boolean {
  return store.isEnabled && store.url === undefined;
}

function isUnder(path: string, directory: string): boolean {
  const relative = posix.relative(directory, path);
  return !relative.startsWith('..') && !posix.isAbsolute(relative);
}

/** A fleet is one process group. */
function checkGroups({ processGroups, services, mounts }: FlyToml): Finding[] {
  const served = services.map(({ processes }) => processes);
  const unknown = [...served, ...mounts.map(({ processes }) => processes)]
    .flat()
    .filter((group) => processGroups.length > 0 && !processGroups.includes(group));
  if (unknown.length > 0) {
    return [
      error(
        `The process group ${[...new Set(unknown)].join(', ')} is not in [processes].`,
        'No Machine belongs to it, so what is set for it has no effect.',
        `processes = ["${processGroups.join('" or "')}"]`,
      ),
    ];
  }
  const isShared = served.some((groups) => (groups.length || processGroups.length) > 1);
  if (!isShared) return [];
  return [
    note(
      'One service is served by several process groups.',
      'The Machines of one group are a fleet: of the sessions of another they know nothing but the hints.',
      'a service of its own for each group, with processes = ["..."]',
    ),
  ];
}

/**
 * Checks how a deploy replaces Machines and how they stop: whether sessions, their store and the
 * memory of the app survive, and whether a drain has enough time.
 */
import { dirname, posix } from 'node:path';
import type { Config } from '../config/config.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
import type { FlyToml, Service } from './fly-toml.ts';
import { sidecarServices } from './service.ts';

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
      'Each group is a fleet of its own: Machines cannot look up sessions of another group, only follow owner hints.',
      'one service per group, with processes = ["..."]',
    ),
  ];
}

export function checkStopping(toml: FlyToml, config: Config): Finding[] {
  return [
    ...checkSignal(toml),
    ...checkTimeout(toml, config),
    ...sidecarServices(toml, config).flatMap((service) => checkPausing(service, toml, config)),
  ];
}

const DRAINING_SIGNALS: readonly (string | undefined)[] = [undefined, 'SIGINT', 'SIGTERM'];

function checkSignal({ killSignal }: FlyToml): Finding[] {
  if (DRAINING_SIGNALS.includes(killSignal)) return [];
  return [
    error(
      `kill_signal is ${JSON.stringify(killSignal)}.`,
      'The sidecar drains on SIGINT and SIGTERM; another signal ends it without a drain.',
      'kill_signal = "SIGINT"',
    ),
  ];
}

const DEFAULT_KILL_TIMEOUT_MS = 5_000;
const MAX_KILL_TIMEOUT_MS = 300_000;
/** What a clean shutdown takes after the drain: close connections, flush the store. */
const STOPPING_MS = 2_000;
const ADVISED_STOPPING_MS = 5_000;

function checkTimeout({ killTimeout }: FlyToml, { drainTimeoutMs }: Config): Finding[] {
  if (killTimeout.kind === 'unreadable') {
    return [
      error(
        'kill_timeout is not a duration.',
        'Fly.io rejects the file.',
        advisedTimeout(drainTimeoutMs),
      ),
    ];
  }
  const isSet = killTimeout.kind === 'set';
  const killMs = isSet ? killTimeout.ms : DEFAULT_KILL_TIMEOUT_MS;
  const shown = isSet ? `kill_timeout is ${killMs} ms` : `kill_timeout is not set (default 5 s)`;
  if (killMs > MAX_KILL_TIMEOUT_MS) {
    return [
      warning(
        `${shown}.`,
        'Fly.io waits 300 s at most.',
        `kill_timeout = "${MAX_KILL_TIMEOUT_MS / 1000}s"`,
      ),
    ];
  }
  if (killMs <= drainTimeoutMs) {
    return [
      error(
        `${shown}, but DRAIN_TIMEOUT_MS is ${drainTimeoutMs}.`,
        'Fly.io kills the Machine during the drain: it breaks open streams, and pending writes may be lost.',
        advisedTimeout(drainTimeoutMs),
      ),
    ];
  }
  if (killMs < drainTimeoutMs + STOPPING_MS) {
    return [
      warning(
        `${shown}, but DRAIN_TIMEOUT_MS is ${drainTimeoutMs}.`,
        'After the drain, too little time is left for a clean shutdown.',
        advisedTimeout(drainTimeoutMs),
      ),
    ];
  }
  return [
    ok(`A drain (${drainTimeoutMs} ms) ends before Fly.io kills the Machine (${killMs} ms).`),
  ];
}

function advisedTimeout(drainTimeoutMs: number): string {
  const killMs = drainTimeoutMs + ADVISED_STOPPING_MS;
  if (killMs <= MAX_KILL_TIMEOUT_MS) return `kill_timeout = "${Math.ceil(killMs / 1000)}s"`;
  return `kill_timeout = "300s"\nand DRAIN_TIMEOUT_MS=${MAX_KILL_TIMEOUT_MS - ADVISED_STOPPING_MS}`;
}

const MAX_SUSPENDED_MB = 2_048;

function checkPausing(
  service: Service,
  { memoryMb = 0 }: FlyToml,
  { ownerStopped }: Config,
): Finding[] {
  const { autoStop, autoStart, section } = service;
  if (autoStop === undefined || autoStop === 'off')
    return [ok('Fly.io does not stop idle Machines.')];
  const head = section === 'http_service' ? '[http_service]' : '[[services]]';
  const findings: Finding[] = [];
  if (autoStart === false) {
    findings.push(
      error(
        `auto_stop_machines is "${autoStop}", but auto_start_machines is false.`,
        'Fly.io never starts a stopped Machine again, not even for sessions that it owns.',
        `${head}\n  auto_start_machines = true`,
      ),
    );
  }
  if (autoStop === 'stop') {
    findings.push(
      warning(
        'auto_stop_machines is "stop".',
        'A stopped Machine loses its memory and the sessions of the app. A suspended one keeps them.',
        `${head}\n  auto_stop_machines = "suspend"`,
      ),
    );
  } else if (memoryMb > MAX_SUSPENDED_MB) {
    findings.push(
      warning(
        `auto_stop_machines is "suspend", but a Machine has ${memoryMb} MB of memory.`,
        'Fly.io suspends Machines of up to 2 GB; it stops a larger one, which loses its memory.',
        `${head}\n  auto_stop_machines = "off"`,
      ),
    );
  } else if (ownerStopped === 'gone') findings.push(suspendedCountsAsGone());
  else findings.push(ok('Fly.io suspends idle Machines, which keep their memory.'));
  if (!service.minMachinesRunning) {
    findings.push(
      note(
        'min_machines_running is 0.',
        'When no Machine is running, the first request waits until one has started.',
        `${head}\n  min_machines_running = 1`,
      ),
    );
  }
  return findings;
}

/** DNS can't tell a suspended Machine from a stopped one. */
function suspendedCountsAsGone(): Finding {
  return error(
    'OWNER_STOPPED is gone, but auto_stop_machines is "suspend".',
    'A suspended Machine still has its sessions in memory, but their clients get "session not ' +
      'found" instead of waking it.',
    'OWNER_STOPPED=wake',
  );
}

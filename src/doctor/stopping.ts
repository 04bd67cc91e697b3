/** Checks how Machines stop: whether a drain has enough time, and what idle Machines lose. */
import type { Config } from '../config/config.ts';
import { groupsServedBy, machineOf } from './process-groups.ts';
import { error, fixable, note, ok, warning, type Finding } from './report.ts';
import type { FlyToml, Service } from './fly-toml.ts';
import { sidecarServices } from './service.ts';

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
    fixable(
      'error',
      `kill_signal is ${JSON.stringify(killSignal)}.`,
      'The sidecar drains on SIGINT and SIGTERM; another signal ends it without a drain.',
      [{ path: ['kill_signal'], value: 'SIGTERM' }],
    ),
  ];
}

const DEFAULT_KILL_TIMEOUT_MS = 5_000;
const MAX_KILL_TIMEOUT_MS = 300_000;
/** What a clean shutdown takes after the drain: close connections, flush the store. */
const FLUSHING_MS = 2_000;
const ADVISED_FLUSHING_MS = 5_000;

function checkTimeout({ killTimeout }: FlyToml, config: Config): Finding[] {
  const { drainTimeoutMs, stopTimeoutMs } = config;
  const remark = (level: 'error' | 'warning', what: string, why: string): Finding[] => [
    adviseTimeout(level, what, why, config),
  ];
  if (killTimeout.kind === 'unreadable') {
    return remark('error', 'kill_timeout is not a duration.', 'Fly.io rejects the file.');
  }
  const isSet = killTimeout.kind === 'set';
  const killMs = isSet ? killTimeout.ms : DEFAULT_KILL_TIMEOUT_MS;
  const shown = isSet ? `kill_timeout is ${killMs} ms` : `kill_timeout is not set (default 5 s)`;
  if (killMs > MAX_KILL_TIMEOUT_MS) {
    return [
      fixable('warning', `${shown}.`, 'Fly.io waits 300 s at most.', [
        { path: ['kill_timeout'], value: `${MAX_KILL_TIMEOUT_MS / 1000}s` },
      ]),
    ];
  }
  if (killMs <= drainTimeoutMs) {
    return remark(
      'error',
      `${shown}, but DRAIN_TIMEOUT_MS is ${drainTimeoutMs}.`,
      'Fly.io kills the Machine during the drain: it breaks open streams, and pending writes may be lost.',
    );
  }
  if (killMs < drainTimeoutMs + stopTimeoutMs + FLUSHING_MS) {
    return remark(
      'warning',
      `${shown}, but DRAIN_TIMEOUT_MS is ${drainTimeoutMs} and STOP_TIMEOUT_MS ${stopTimeoutMs}.`,
      'After the drain, too little time is left for the app to exit (with `run`) and for a clean shutdown.',
    );
  }
  return [
    ok(
      `A drain (${drainTimeoutMs} ms) and the exit of the app (${stopTimeoutMs} ms) end before Fly.io kills the Machine (${killMs} ms).`,
    ),
  ];
}

function adviseTimeout(
  level: 'error' | 'warning',
  what: string,
  why: string,
  { drainTimeoutMs, stopTimeoutMs }: Config,
): Finding {
  const killMs = drainTimeoutMs + stopTimeoutMs + ADVISED_FLUSHING_MS;
  const seconds = Math.ceil(Math.min(killMs, MAX_KILL_TIMEOUT_MS) / 1000);
  const change = { path: ['kill_timeout'], value: `${seconds}s` };
  if (killMs <= MAX_KILL_TIMEOUT_MS) return fixable(level, what, why, [change]);
  const longestDrainMs = MAX_KILL_TIMEOUT_MS - stopTimeoutMs - ADVISED_FLUSHING_MS;
  const advice = `kill_timeout = "300s"\nand DRAIN_TIMEOUT_MS=${Math.max(longestDrainMs, 0)}`;
  return (level === 'error' ? error : warning)(what, why, advice);
}

function checkPausing(service: Service, toml: FlyToml, config: Config): Finding[] {
  const { autoStop, autoStart, path } = service;
  if (config.suspend) return checkSelfSuspend(service, toml);
  if (autoStop === undefined || autoStop === 'off')
    return [ok('Fly.io does not stop idle Machines.')];
  const findings: Finding[] = [];
  if (autoStart === false) {
    findings.push(
      fixable(
        'error',
        `auto_stop_machines is "${autoStop}", but auto_start_machines is false.`,
        'Fly.io never starts a stopped Machine again, not even for sessions that it owns.',
        [{ path: [...path, 'auto_start_machines'], value: true }],
      ),
    );
  }
  findings.push(checkSuspending(service, toml, config.ownerStopped));
  if (!service.minMachinesRunning) {
    findings.push(
      note(
        'min_machines_running is 0.',
        'When no Machine is running, the first request waits until one has started.',
        `${service.section === 'services' ? '[[services]]' : '[http_service]'}\n  min_machines_running = 1`,
      ),
    );
  }
  return findings;
}

/** `SUSPEND_AFTER` is set. */
function checkSelfSuspend(service: Service, toml: FlyToml): Finding[] {
  const { autoStop = 'off', autoStart, path } = service;
  const findings: Finding[] = [];
  if (autoStart === false) {
    findings.push(
      fixable(
        'error',
        'SUSPEND_AFTER is set, but auto_start_machines is false.',
        'Nothing wakes a Machine that has suspended itself.',
        [{ path: [...path, 'auto_start_machines'], value: true }],
      ),
    );
  }
  const obstacle = obstacleToSuspending(toml, service);
  if (obstacle !== undefined) {
    const why = 'Fly.io suspends Machines of up to 2 GB, without swap and GPU.';
    findings.push(warning(`SUSPEND_AFTER is set, but ${obstacle}.`, why, 'SUSPEND_AFTER=0'));
  }
  if (autoStop !== 'off') {
    findings.push(
      fixable(
        'warning',
        `auto_stop_machines is "${autoStop}", and SUSPEND_AFTER is set.`,
        'Fly.io looks at load only: it knows no sessions, and does not tell the other Machines.',
        [{ path: [...path, 'auto_stop_machines'], value: 'off' }],
      ),
    );
  }
  return findings.length > 0 ? findings : [ok('Unused Machines suspend themselves.')];
}

function checkSuspending(
  service: Service,
  toml: FlyToml,
  ownerStopped: Config['ownerStopped'],
): Finding {
  const { autoStop, path } = service;
  const obstacle = obstacleToSuspending(toml, service);
  const become = (value: 'off' | 'suspend'): { path: (string | number)[]; value: string }[] => [
    { path: [...path, 'auto_stop_machines'], value },
  ];
  if (autoStop === 'stop') {
    const why = 'A stopped Machine loses its memory and the sessions of the app.';
    return obstacle === undefined
      ? fixable(
          'warning',
          'auto_stop_machines is "stop".',
          `${why} A suspended one keeps them.`,
          become('suspend'),
        )
      : fixable(
          'warning',
          'auto_stop_machines is "stop".',
          `${why} Fly.io can't suspend it: ${obstacle}.`,
          become('off'),
        );
  }
  if (obstacle !== undefined) {
    return fixable(
      'warning',
      `auto_stop_machines is "suspend", but ${obstacle}.`,
      'Fly.io suspends Machines of up to 2 GB, without swap and GPU; it stops others, which lose their memory.',
      become('off'),
    );
  }
  if (ownerStopped === 'gone') return suspendedCountsAsGone();
  return ok('Fly.io suspends idle Machines, which keep their memory.');
}

const MAX_SUSPENDED_MB = 2_048;

/** https://fly.io/docs/reference/suspend-resume/ */
function obstacleToSuspending(toml: FlyToml, service: Service): string | undefined {
  const machines = groupsServedBy(toml, [service]).flatMap((group) => machineOf(toml, group) ?? []);
  const memoryMb = Math.max(0, ...machines.map((machine) => machine.memoryMb ?? 0));
  if (memoryMb > MAX_SUSPENDED_MB) return `a Machine has ${memoryMb} MB of memory`;
  if (toml.swapMb > 0) return `swap_size_mb is ${toml.swapMb}`;
  return machines.some(({ hasGpu }) => hasGpu) ? 'a Machine has a GPU' : undefined;
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

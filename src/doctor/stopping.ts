/** How Machines are stopped and started: whether a drain has its time, and memory outlives a pause. */
import type { Config } from '../config/config.ts';
import { error, note, ok, warning, type Finding } from './report.ts';
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
    error(
      `kill_signal is ${JSON.stringify(killSignal)}.`,
      'The sidecar drains at SIGINT and SIGTERM; another signal ends it where it stands.',
      'kill_signal = "SIGINT"',
    ),
  ];
}

const DEFAULT_KILL_TIMEOUT_MS = 5_000;
const MAX_KILL_TIMEOUT_MS = 300_000;
/** What a stop in order takes after the drain: closing, flushing. */
const STOPPING_MS = 2_000;
const ADVISED_STOPPING_MS = 5_000;

function checkTimeout({ killTimeout }: FlyToml, { drainTimeoutMs }: Config): Finding[] {
  if (killTimeout.kind === 'unreadable') {
    return [
      error(
        'kill_timeout is not a duration.',
        'Fly.io refuses the file.',
        advisedTimeout(drainTimeoutMs),
      ),
    ];
  }
  const isSet = killTimeout.kind === 'set';
  const killMs = isSet ? killTimeout.ms : DEFAULT_KILL_TIMEOUT_MS;
  const shown = isSet ? `kill_timeout is ${killMs} ms` : `kill_timeout is not set, which is 5 s`;
  if (killMs > MAX_KILL_TIMEOUT_MS) {
    return [
      warning(
        `${shown}.`,
        'Fly.io waits for 300 s at most.',
        `kill_timeout = "${MAX_KILL_TIMEOUT_MS / 1000}s"`,
      ),
    ];
  }
  if (killMs <= drainTimeoutMs) {
    return [
      error(
        `${shown}, and DRAIN_TIMEOUT_MS is ${drainTimeoutMs}.`,
        'The Machine is killed in the middle of its drain: open streams break off, and what is to be written may be lost.',
        advisedTimeout(drainTimeoutMs),
      ),
    ];
  }
  if (killMs < drainTimeoutMs + STOPPING_MS) {
    return [
      warning(
        `${shown}, and DRAIN_TIMEOUT_MS is ${drainTimeoutMs}.`,
        'Hardly any time is left after the drain to stop in order.',
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
  if (autoStop === undefined || autoStop === 'off') return [ok('Idle Machines are not stopped.')];
  const head = section === 'http_service' ? '[http_service]' : '[[services]]';
  const findings: Finding[] = [];
  if (autoStart === false) {
    findings.push(
      error(
        `auto_stop_machines is "${autoStop}", and auto_start_machines is false.`,
        'A Machine that was stopped is never started again, not even for the sessions that it has.',
        `${head}\n  auto_start_machines = true`,
      ),
    );
  }
  if (autoStop === 'stop') {
    findings.push(
      warning(
        'auto_stop_machines is "stop".',
        'A stopped Machine has lost its memory, and with it the sessions of the app. A suspended one keeps it.',
        `${head}\n  auto_stop_machines = "suspend"`,
      ),
    );
  } else if (memoryMb > MAX_SUSPENDED_MB) {
    findings.push(
      warning(
        `auto_stop_machines is "suspend", and a Machine has ${memoryMb} MB of memory.`,
        'Fly.io suspends Machines of up to 2 GB; a larger one is stopped, and loses its memory.',
        `${head}\n  auto_stop_machines = "off"`,
      ),
    );
  } else if (ownerStopped === 'gone') findings.push(givesUpSuspended());
  else findings.push(ok('An idle Machine is suspended, and keeps its memory.'));
  if (!service.minMachinesRunning) {
    findings.push(
      note(
        'min_machines_running is 0.',
        'With no Machine running, the first request waits until one has started.',
        `${head}\n  min_machines_running = 1`,
      ),
    );
  }
  return findings;
}

/** DNS can't tell a suspended Machine from a stopped one. */
function givesUpSuspended(): Finding {
  return error(
    'OWNER_STOPPED is gone, and auto_stop_machines is "suspend".',
    'A suspended Machine has its sessions in memory still: they are answered as those of a Machine ' +
      'that is gone, instead of waking it.',
    'OWNER_STOPPED=wake',
  );
}

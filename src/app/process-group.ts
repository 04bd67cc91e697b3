/**
 * All processes of the app: its process group, and what has left the group but not the session or the family.
 * `/proc` shows them on Linux; elsewhere only the group is known. A daemon that has cut every tie escapes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Clock } from '../clock.ts';

export interface ProcessGroup {
  /** The processes that run, zombies excluded. */
  members(): readonly number[];
  /** Reaches every process; false if there is none. */
  signal(signal: NodeJS.Signals): boolean;
  /** Resolves when no process is left. */
  gone(): Promise<void>;
  /** SIGTERM, then SIGKILL a second later. Blocks the thread: for the 'exit' event. */
  endNow(): void;
}

const CHECK_INTERVAL_MS = 50;
const CHECKS_BEFORE_KILL = 20;

/** `leader`: of a process group and a session of its own, as a detached child is. */
export function createProcessGroup(leader: number, clock: Clock): ProcessGroup {
  const members = (): readonly number[] => membersOf(leader);

  function signal(name: NodeJS.Signals): boolean {
    const others = members().filter((pid) => pid !== leader);
    const isReached = send(-leader, name);
    return (
      others.map((pid) => isOutside(pid, leader) && send(pid, name)).some(Boolean) || isReached
    );
  }

  async function gone(): Promise<void> {
    while (members().length > 0) await clock.sleep(CHECK_INTERVAL_MS);
  }

  function endNow(): void {
    if (members().length === 0) return;
    signal('SIGTERM');
    for (let checks = 0; checks < CHECKS_BEFORE_KILL && members().length > 0; checks += 1) pause();
    if (members().length > 0) signal('SIGKILL');
  }

  return { members, signal, gone, endNow };
}

function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    // It has ended, or belongs to another user.
    return false;
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, CHECK_INTERVAL_MS);
}

interface ProcessState {
  readonly pid: number;
  readonly isZombie: boolean;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
}

function membersOf(leader: number): readonly number[] {
  const all = readProcesses();
  if (!all) return send(-leader, 0) ? [leader] : [];
  const members = new Set([leader]);
  for (let before = 0; before !== members.size;) {
    before = members.size;
    for (const { pid, parent, group, session } of all)
      if (group === leader || session === leader || members.has(parent)) members.add(pid);
  }
  return all.filter(({ pid, isZombie }) => members.has(pid) && !isZombie).map(({ pid }) => pid);
}

function isOutside(pid: number, group: number): boolean {
  return readProcess(String(pid))?.group !== group;
}

/** Undefined where there is no `/proc`. */
function readProcesses(): readonly ProcessState[] | undefined {
  try {
    const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    const states = names.flatMap((name) => readProcess(name) ?? []);
    return states.length > 0 ? states : undefined;
  } catch {
    return undefined;
  }
}

/** proc(5): the name of the program, in parentheses, may contain any character. */
const STAT = /^(\d+) \(.*\) (\S) (\d+) (\d+) (\d+) /s;

/** Undefined if the process has ended meanwhile. */
function readProcess(name: string): ProcessState | undefined {
  try {
    const [, pid, state, ...others] = STAT.exec(readFileSync(`/proc/${name}/stat`, 'latin1')) ?? [];
    const [parent = 0, group = 0, session = 0] = others.map(Number);
    return { pid: Number(pid), isZombie: state === 'Z' || state === 'X', parent, group, session };
  } catch {
    return undefined;
  }
}

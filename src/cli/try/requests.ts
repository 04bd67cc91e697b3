/** What the sidecars of a simulation log about each request: their decisions, and why. */
import { asObject, asText, parseJson } from '../../json.ts';
import { parseMachineId, parseSessionKey, type MachineId } from '../../session.ts';
import type { ProcessName } from '../../simulator/machine.ts';

interface SidecarDecision {
  readonly machine: MachineId;
  readonly decision: string;
  readonly why: string;
  /** Hashed. */
  readonly session: string | undefined;
  /** With ids masked. */
  readonly path: string;
}

interface SidecarWarning {
  readonly machine: MachineId;
  readonly text: string;
}

export interface RequestFollower {
  /** A line that a process has written. */
  readLine(machine: MachineId, source: ProcessName, line: string): void;
  /** In the order of the log lines; a request that is still open has none of its last sidecar. */
  decisionsOf(requestId: string): readonly SidecarDecision[];
  /** From now on, calls back with each warning of a sidecar. */
  onWarning(listener: (warning: SidecarWarning) => void): void;
}

/** Older ones are dropped. */
const MAX_REQUESTS = 1_000;
const WARN_LEVEL = 40;
const SHOWN_KEY_LENGTH = 8;

export function createRequestFollower(): RequestFollower {
  const decisions = new Map<string, SidecarDecision[]>();
  let warn: (warning: SidecarWarning) => void = () => undefined;
  const note = (requestId: string, decision: SidecarDecision): void => {
    decisions.set(requestId, [...(decisions.get(requestId) ?? []), decision]);
    const [oldest] = decisions.keys();
    if (decisions.size > MAX_REQUESTS && oldest !== undefined) decisions.delete(oldest);
  };
  return {
    readLine: (machine, source, line) => {
      const json = source === 'sidecar' ? asObject(parseJson(line)) : undefined;
      const message = asText(json?.msg);
      if (!json || message === undefined) return;
      const { requestId, decision, why, path, level, to } = json;
      if (message === 'request' && typeof requestId === 'string') {
        const key = parseSessionKey(asText(json.session) ?? '');
        const session = key?.slice(0, SHOWN_KEY_LENGTH);
        note(requestId, {
          ...{ machine, session, path: String(path) },
          ...{ decision: String(decision), why: String(why) },
        });
      } else if (isWarning(level)) {
        const target = parseMachineId(asText(to) ?? '');
        warn({ machine, text: target === undefined ? message : `${message} (${target})` });
      }
    },
    decisionsOf: (requestId) => decisions.get(requestId) ?? [],
    onWarning: (listener) => {
      warn = listener;
    },
  };
}

/** By number, or by name. */
function isWarning(level: unknown): boolean {
  return typeof level === 'number' ? level >= WARN_LEVEL : level === 'warn' || level === 'error';
}

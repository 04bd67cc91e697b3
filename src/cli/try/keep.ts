/** `try --keep`: the fleet goes on, a client makes calls, and commands from standard input disturb it. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import type { Probe, ProbeSession } from '../../probe/probe.ts';
import type { MachineId } from '../../session.ts';
import type { EdgeRequestRecord } from '../../simulator/records.ts';
import { createMachineCommands } from './machine-commands.ts';
import type { RequestFollower } from './requests.ts';
import type { Style } from './style.ts';
import type { Trial } from './trial.ts';

interface KeepOptions {
  readonly trial: Trial;
  readonly probe: Probe;
  readonly sessions: number;
  readonly adminToken: string;
  readonly follower: RequestFollower;
  readonly isJson: boolean;
  readonly style: Style;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly stdin: Readable;
  readonly stdout: Writable;
}

/** Between two calls of the client, in ms. */
const CALL_INTERVAL_MS = 1_000;
/** The sidecars write their lines in batches, and that of a stream only at its end. */
const LINES_TIMEOUT_MS = 500;

/** Resolves after the signal, or after `quit`. */
export async function keepRunning(options: KeepOptions): Promise<void> {
  const { trial, isJson, follower, stdin, stdout, clock, signal } = options;
  const print = (text: string): void => void stdout.write(`${text}\n`);
  const say = isJson ? (): void => undefined : print;
  const { machines } = trial.simulation;
  say(
    `\n${options.style.strong('It goes on')}  at ${trial.simulation.url}, for clients of your own, too. ` +
      `A call is made each second.\nType crash 2, or help. Ctrl-C ends everything.\n` +
      machines
        .map(({ id, region }, index) => `  Machine ${index + 1}: ${id}, ${region}`)
        .join('\n'),
  );
  const quitting = new AbortController();
  const isOver = AbortSignal.any([signal, quitting.signal]);
  follower.onWarning(({ machine, text }) => say(`${nameOf(machine, trial)}, sidecar: ${text}`));
  trial.simulation.onRequest((record) => {
    void clock.sleep(LINES_TIMEOUT_MS, isOver).then(() => {
      if (!isOver.aborted) print(lineOf(record, options));
    });
  });
  const commands = createMachineCommands(trial.simulation, options.adminToken);
  const lines = createInterface({ input: stdin });
  lines.on('line', (line) => {
    if (line.trim() === 'quit') quitting.abort();
    else if (line.trim() !== '') void commands.execute(line).then(say);
  });
  await makeCalls(options, say, isOver);
  lines.close();
}

/** A client that opens a new session in place of one that is lost, as clients do. */
async function makeCalls(
  { trial, probe, sessions, clock }: KeepOptions,
  say: (text: string) => void,
  isOver: AbortSignal,
): Promise<void> {
  const open: ProbeSession[] = [];
  while (!isOver.aborted) {
    const session = open.length < sessions ? undefined : open.shift();
    if (session) {
      const { loss } = await session.call();
      if (loss) {
        // After the line of the request.
        await clock.sleep(LINES_TIMEOUT_MS, isOver);
        say(`Session ${session.key} is lost: ${loss.why}. The client opens a new one.`);
      } else {
        open.push(session);
      }
    } else {
      const opening = await probe.open(trial.client);
      if (opening.kind === 'opened') open.push(opening.session);
      else say('The client could not open a session.');
    }
    await clock.sleep(CALL_INTERVAL_MS, isOver);
  }
  await Promise.all(open.map((session) => session.close()));
}

function lineOf(
  record: EdgeRequestRecord,
  { trial, follower, isJson, style }: KeepOptions,
): string {
  const rankOf = (id: MachineId): number => record.hops.findIndex(({ machine }) => machine === id);
  // Each sidecar writes its lines when it likes.
  const decisions = follower
    .decisionsOf(record.requestId)
    .toSorted((one, other) => rankOf(one.machine) - rankOf(other.machine));
  const session = decisions.find((each) => each.session !== undefined)?.session;
  const { requestId, method, status, ms, error, hops } = record;
  const path = decisions[0]?.path ?? record.path;
  if (isJson) {
    return JSON.stringify({ requestId, method, path, session, decisions, hops, status, ms, error });
  }
  const steps =
    decisions.length > 0
      ? decisions.map(
          ({ machine, decision, why }) => `${nameOf(machine, trial)} ${decision} (${why})`,
        )
      : hops.map(({ machine, how }) => `${nameOf(machine, trial)} ${how}`);
  const result = `${status}${error === undefined ? '' : ` ${error}`}`;
  return [
    `${method} ${path}`,
    `session ${session ?? '-'}`,
    steps.join(' > ') || 'no Machine',
    status < 400 ? style.good(result) : style.bad(result),
    `${ms.toFixed(1)} ms`,
  ].join('  ');
}

function nameOf(id: MachineId, { simulation: { machines } }: Trial): string {
  return `Machine ${machines.findIndex((machine) => machine.id === id) + 1}`;
}

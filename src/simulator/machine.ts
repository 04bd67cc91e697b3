/** One simulated Machine: an app, and the sidecar in front of it, as local processes. */
import type { MachineId } from '../session.ts';
import { watchListeningPlaces } from '../app/misplaced-app.ts';
import { awaitPort } from '../app/supervised-app.ts';
import type { Clock } from '../clock.ts';
import type { ProcessKeeper, RunningProcess } from './processes.ts';
import type { EdgeMachine, LifecycleState } from './targets.ts';
import type { NetworkMachine } from './zone.ts';

/** Ports on 127.0.0.1, fixed for the lifetime of the Machine. */
export interface MachinePorts {
  /** The port for the edge: the sidecar's, or the app's if there is no sidecar. */
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
  readonly app: number;
}

export type ProcessName = 'app' | 'sidecar';

interface ProcessPlan {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface MachineOptions {
  readonly id: MachineId;
  readonly app: string;
  readonly region: string;
  readonly processGroup: string;
  readonly ports: MachinePorts;
  readonly appPlan: ProcessPlan;
  /** Undefined if the edge connects directly to the app. */
  readonly sidecarPlan: ProcessPlan | undefined;
  /** Whether the sidecar has spans to send when it ends. */
  readonly sendsTraces: boolean;
  readonly keeper: ProcessKeeper;
  readonly clock: Clock;
  readonly onLine: (source: ProcessName, line: string) => void;
  /** While the app is waited for: it listens at this origin, and not on its port. */
  readonly onAppElsewhere: (origin: string) => void;
}

const HOST = '127.0.0.1';
/** Fly's defaults, https://fly.io/docs/reference/configuration/ */
const KILL_SIGNAL = 'SIGINT';
export const KILL_TIMEOUT_MS = 5_000;
const SHUT_DOWN_GRACE_MS = 2_000;
const START_TIMEOUT_MS = 30_000;

/**
 * stopped --start--> starting --(both listen)--> started --stop--> stopping --(both ended)--> stopped
 * started, suspended --crash--> stopped, with its volume
 * started --suspend--> suspended --resume--> started (with its memory)
 * any --destroy--> destroyed
 */
export class SimulatedMachine implements EdgeMachine, NetworkMachine {
  readonly id: MachineId;
  readonly app: string;
  readonly region: string;
  readonly processGroup: string;
  readonly ports: MachinePorts;
  readonly #options: MachineOptions;
  #state: LifecycleState = 'stopped';
  #stoppedAt: number | undefined;
  /** The latest start; meaningful while the state is `starting`. */
  #starting: Promise<void> = Promise.resolve();
  #processes: Partial<Record<ProcessName, RunningProcess>> = {};

  constructor(options: MachineOptions) {
    this.id = options.id;
    this.app = options.app;
    this.region = options.region;
    this.processGroup = options.processGroup;
    this.ports = options.ports;
    this.#options = options;
  }

  get state(): LifecycleState {
    return this.#state;
  }

  get stoppedAt(): number | undefined {
    return this.#stoppedAt;
  }

  get port(): number {
    return this.ports.public;
  }

  get peerPort(): number {
    return this.ports.peer;
  }

  /** The processes that run, with what they have started. */
  processesOf(name: ProcessName): readonly number[] {
    const process = this.#processes[name];
    return process && !process.hasEnded() ? process.members() : [];
  }

  /** The last output of an app that has exited by itself; undefined if it has not. */
  lastLinesOfEndedApp(): string | undefined {
    const { app } = this.#processes;
    return this.#state === 'started' && app?.hasEnded() ? app.lastLines() : undefined;
  }

  /** Starts or resumes, as Fly Proxy does for a request. */
  wake(): Promise<void> {
    if (this.#state === 'suspended') this.resume();
    return this.start();
  }

  /** Resolves when app and sidecar listen; otherwise rejects with their last output. */
  start(): Promise<void> {
    if (this.#state === 'started') return Promise.resolve();
    if (this.#state === 'stopped') this.#starting = this.#startProcesses();
    return this.#state === 'starting' ? this.#starting : Promise.reject(this.#wrongState('start'));
  }

  /** As `fly machine stop`: memory is lost, the volume stays. */
  async stop(): Promise<void> {
    this.#expect('stop', 'started', 'suspended');
    this.#state = 'stopping';
    // The sidecar first drains the requests in flight.
    await this.#processes.sidecar?.stop(KILL_SIGNAL, KILL_TIMEOUT_MS);
    await this.#processes.app?.stop(KILL_SIGNAL, KILL_TIMEOUT_MS);
    this.#enter('stopped');
  }

  /** As `fly machine suspend`: the processes freeze, with their memory and connections. */
  suspend(): void {
    this.#expect('suspend', 'started');
    this.#signal('SIGSTOP');
    this.#enter('suspended');
  }

  resume(): void {
    this.#expect('resume', 'suspended');
    this.#signal('SIGCONT');
    this.#enter('started');
  }

  /** As if the Machine fails: at once, and the volume stays. */
  async crash(): Promise<void> {
    this.#expect('crash', 'started', 'suspended');
    this.#state = 'stopping';
    await this.#kill();
    this.#enter('stopped');
  }

  /** As `fly machine destroy --force`: at once and permanently. */
  async destroy(): Promise<void> {
    this.#enter('destroyed');
    await this.#kill();
  }

  /**
   * The end of the simulation: the app may exit by itself, but the sidecar need not drain, as there are
   * no more clients. A drain takes a second, which only the last traces are worth.
   */
  async shutDown(): Promise<void> {
    const { app, sidecar } = this.#processes;
    this.#enter('destroyed');
    await Promise.all([
      app?.stop('SIGTERM', SHUT_DOWN_GRACE_MS),
      this.#options.sendsTraces
        ? sidecar?.stop('SIGTERM', SHUT_DOWN_GRACE_MS)
        : sidecar?.stop('SIGKILL', 0),
    ]);
  }

  /** Ends the sidecar and starts it again, while the app runs on. The Machine stays `started`. */
  async restartSidecar(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.stopSidecar(signal);
    await this.startSidecar();
  }

  /** The app keeps running. Until the sidecar starts again, the Machine refuses connections. */
  async stopSidecar(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#expect('stop the sidecar', 'started');
    await this.#processes.sidecar?.stop(signal, KILL_TIMEOUT_MS);
  }

  async startSidecar(): Promise<void> {
    this.#expect('start the sidecar', 'started');
    await this.#launch('sidecar');
  }

  async #startProcesses(): Promise<void> {
    this.#enter('starting');
    const outcomes = await Promise.allSettled([this.#launch('app'), this.#launch('sidecar')]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (!failed) {
      this.#enter('started');
      return;
    }
    await this.#kill();
    this.#enter('stopped');
    throw failed.reason;
  }

  async #launch(name: ProcessName): Promise<void> {
    const { keeper, clock, onLine, appPlan, sidecarPlan } = this.#options;
    const plan = name === 'app' ? appPlan : sidecarPlan;
    if (!plan) return;
    const started = await keeper.start({ ...plan, onLine: (line) => onLine(name, line) });
    this.#processes[name] = started;
    // The Machine was destroyed before there was a process to kill.
    if (this.#state === 'destroyed') await started.stop('SIGKILL', 0);
    const port = name === 'app' ? this.ports.app : this.ports.public;
    const problem = await untilListening({
      port,
      started,
      clock,
      onElsewhere: name === 'app' ? this.#options.onAppElsewhere : undefined,
    });
    if (problem === undefined) return;
    await started.stop('SIGKILL', 0);
    throw new Error(`Machine ${this.id}: the ${name} ${problem}\n${started.lastLines()}`);
  }

  async #kill(): Promise<void> {
    const { app, sidecar } = this.#processes;
    await Promise.all([app?.stop('SIGKILL', 0), sidecar?.stop('SIGKILL', 0)]);
  }

  #signal(signal: NodeJS.Signals): void {
    this.#processes.sidecar?.signal(signal);
    this.#processes.app?.signal(signal);
  }

  /** A destroyed Machine stays destroyed, whatever operation was in progress. */
  #enter(state: LifecycleState): void {
    if (this.#state === 'destroyed') return;
    this.#state = state;
    this.#stoppedAt = state === 'stopped' ? this.#options.clock.now() : undefined;
  }

  #expect(action: string, ...states: LifecycleState[]): void {
    if (!states.includes(this.#state)) throw this.#wrongState(action);
  }

  #wrongState(action: string): Error {
    return new Error(`Machine ${this.id} is ${this.#state}: cannot ${action}`);
  }
}

/** For an app that opens another port before its own, such as one for metrics. */
const ELSEWHERE_GRACE_MS = 5_000;

interface Awaited {
  readonly port: number;
  readonly started: RunningProcess;
  readonly clock: Clock;
  /** Undefined: it has several ports. */
  readonly onElsewhere: ((origin: string) => void) | undefined;
}

/** Why the process does not listen, or undefined once it does. */
async function untilListening(awaited: Awaited): Promise<string | undefined> {
  const { port, started, clock } = awaited;
  const waiting = new AbortController();
  const giveUp = (): void => waiting.abort();
  const cancels = [clock.after(START_TIMEOUT_MS, giveUp)];
  let elsewhere: string | undefined;
  const onPlace = (origin: string): void => {
    if (waiting.signal.aborted) return;
    elsewhere = origin;
    cancels.push(clock.after(ELSEWHERE_GRACE_MS, giveUp));
    awaited.onElsewhere?.(origin);
  };
  if (awaited.onElsewhere) cancels.push(watchListeningPlaces(started, clock, onPlace));
  void started.ended.then(giveUp);
  const listens = await awaitPort({ host: HOST, port, clock, signal: waiting.signal });
  for (const cancel of cancels) cancel();
  if (listens) return undefined;
  if (started.hasEnded()) return `ended with ${await started.ended}`;
  const instead = elsewhere === undefined ? '' : `, but at ${elsewhere}`;
  return `does not listen on port ${port}, which it gets as PORT${instead}`;
}

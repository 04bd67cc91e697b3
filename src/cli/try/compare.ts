/** The comparison that `try` makes: looks at the app, runs both trials, and prints what they show. */
import { randomBytes } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import type { Environment } from '../../config/environment.ts';
import type { HeaderFields } from '../../probe/http-client.ts';
import type { Probe } from '../../probe/probe.ts';
import { adviceFor, checkApp, describeFailure, describeProbe, type AppCheck } from './app-check.ts';
import { jsonOf } from './json.ts';
import { keepRunning } from './keep.ts';
import {
  formatComparison,
  formatCutShort,
  formatSessions,
  verdictOf,
  type Results,
} from './report.ts';
import { createRequestFollower, type RequestFollower } from './requests.ts';
import { seenProtocols } from './seen-protocols.ts';
import { styleFor, type Style } from './style.ts';
import type { Traffic } from './traffic.ts';
import {
  checkSettings,
  startTrial,
  type Trial,
  type TrialOptions,
  type TrialResult,
} from './trial.ts';

export interface ComparisonOptions {
  readonly appCommand: readonly string[];
  readonly sidecarCommand: readonly string[];
  readonly machineCount: number;
  readonly sessions: number;
  readonly calls: number;
  readonly seed: number;
  readonly port: number;
  readonly probes: readonly Probe[];
  readonly headers: HeaderFields;
  readonly isKept: boolean;
  readonly isJson: boolean;
  readonly env: Environment;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly stdin: Readable;
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable;
}

interface Comparison {
  readonly isGood: boolean;
}

/** Rejects if the app, or a sidecar, does not start. */
export function compare(options: ComparisonOptions): Promise<Comparison> {
  return new Comparing(options).run();
}

class Comparing {
  readonly #options: ComparisonOptions;
  readonly #style: Style;
  readonly #adminToken = randomBytes(16).toString('hex');
  readonly #follower: RequestFollower;
  /** For each call of the test; undefined until the app has been called alone. */
  #callTimeoutMs: number | undefined;

  constructor(options: ComparisonOptions) {
    this.#options = options;
    this.#style = styleFor(options.stdout.isTTY === true && !options.isJson, options.env);
    this.#follower = createRequestFollower();
  }

  async run(): Promise<Comparison> {
    const { appCommand, machineCount } = this.#options;
    checkSettings(this.#trialOptions(true));
    this.#say(this.#style.strong('Your app'), `  ${appCommand.join(' ')}`);
    const { detection, callTimeoutMs } = await this.#checkApp();
    this.#callTimeoutMs = callTimeoutMs;
    if (detection.kind !== 'found') return this.#endUnknown(detection);
    this.#say(...describeProbe(detection.probe).map((line) => `  ${line}`), '');
    const traffic = { ...this.#options, probe: detection.probe };
    const { sessions, calls, seed } = traffic;
    this.#say(
      this.#style.strong('The test'),
      `  ${machineCount} Machines; ${sessions} sessions, ${calls} calls in each, every call on a new connection.`,
      `  The simulated Fly Proxy picks a Machine at random for each (seed ${seed}).`,
      '  Below, . is a call that found its session, x one that failed, o one that another Machine answered.',
      '',
    );
    const without = await this.#runTrial(traffic);
    this.#say(this.#style.strong('With fly-affinity'));
    const kept = await this.#startTrial(true);
    try {
      const affine = await this.#run(kept, traffic);
      return await this.#conclude({ without, affine }, kept, detection.probe);
    } finally {
      await kept.close();
    }
  }

  async #checkApp(): Promise<AppCheck> {
    const { appCommand, probes } = this.#options;
    return checkApp(
      {
        ...this.#trialOptions(false),
        onAppElsewhere: (origin, port) => {
          this.#options.stderr.write(`${adviceFor(appCommand, origin, port).join('\n')}\n`);
        },
        onStarted: (ms) =>
          this.#say(`  listens on PORT, ${(ms / 1000).toFixed(1)} s after its start`),
      },
      probes,
    );
  }

  #endUnknown(detection: Exclude<AppCheck['detection'], { kind: 'found' }>): Comparison {
    this.#say(...describeFailure(detection).map((line) => `  ${line}`));
    if (this.#options.isJson)
      this.#print(JSON.stringify({ ok: false, ...detection, probe: undefined }));
    return { isGood: detection.kind === 'stateless' };
  }

  async #runTrial(traffic: Traffic): Promise<TrialResult> {
    this.#say(this.#style.strong('Without fly-affinity'));
    const trial = await this.#startTrial(false);
    try {
      return await this.#run(trial, traffic);
    } finally {
      await trial.close();
    }
  }

  #startTrial(hasSidecar: boolean): Promise<Trial> {
    return startTrial(this.#trialOptions(hasSidecar));
  }

  async #run(trial: Trial, traffic: Traffic): Promise<TrialResult> {
    const result = await trial.run(traffic);
    this.#say(
      formatSessions(result, trial.simulation.machines, this.#style),
      ...formatCutShort(result),
    );
    if (result.lastLines.length > 0) {
      throw new Error(`the app has exited; its last lines:\n${result.lastLines.join('\n')}`);
    }
    this.#say('');
    return result;
  }

  async #conclude(results: Results, trial: Trial, probe: Probe): Promise<Comparison> {
    const hasSeenIds = (await seenProtocols(trial.simulation)).size > 0;
    const verdict = verdictOf(results, hasSeenIds);
    if (this.#options.isJson) {
      this.#print(JSON.stringify(jsonOf(results, probe, verdict, this.#options)));
    }
    this.#say(formatComparison(results, this.#style), '');
    const say = verdict.isGood ? this.#style.good : this.#style.bad;
    const [first = '', ...others] = verdict.sentences;
    this.#say(say(first), ...others);
    if (this.#options.isKept && !this.#options.signal.aborted) {
      await keepRunning({
        ...this.#options,
        trial,
        probe,
        adminToken: this.#adminToken,
        follower: this.#follower,
        style: this.#style,
      });
    }
    return { isGood: verdict.isGood };
  }

  #trialOptions(hasSidecar: boolean): TrialOptions {
    const { sidecarCommand, port, isKept } = this.#options;
    return {
      ...this.#options,
      sidecarCommand: hasSidecar ? sidecarCommand : undefined,
      port: hasSidecar && isKept ? port : 0,
      timeoutMs: this.#callTimeoutMs,
      // Its request lines tell what it decided, and why.
      sidecarEnv: { LOG_LEVEL: 'info', LOG_FORMAT: 'json', ADMIN_TOKEN: this.#adminToken },
      onLine: (machine, source, line) => this.#follower.readLine(machine, source, line),
    };
  }

  /** Text for people. */
  #say(...lines: readonly string[]): void {
    if (!this.#options.isJson) this.#print(lines.join('\n'));
  }

  #print(text: string): void {
    this.#options.stdout.write(`${text}\n`);
  }
}

/**
 * The health of the local app. A refused connection marks it down at once; two failed checks in a row, if
 * a check is configured, do too. One successful probe marks it up again.
 *
 *   up --refused, or the second failed check--> down --a probe passes--> up
 *
 * Nothing runs while it is up and no check is configured. At most one probe runs at a time.
 */
import { connect } from 'node:net';
import type { Cancel, Clock } from '../clock.ts';
import { request } from '../http/node-http.ts';

/** The status of the app in `/readyz` and the log. */
export type UpstreamStatus =
  | { readonly state: 'up' }
  | { readonly state: 'down'; readonly reason: string; readonly forMs: number };

export interface UpstreamHealth {
  isUp(): boolean;
  status(): UpstreamStatus;
  /** Starts the check, if one is configured. */
  start(): void;
  /** A request found no listener. */
  noteRefused(): void;
  /** Resolves when no probe runs; later results change nothing. */
  stop(): Promise<void>;
}

interface UpstreamHealthOptions {
  readonly clock: Clock;
  /** Undefined: the app is not probed while it is up. */
  readonly check: { readonly probe: Probe; readonly intervalMs: number } | undefined;
  /** Probes for a listener, if no check is configured. */
  readonly connect: Probe;
  /**
   * Called when the app goes down, once for each further reason until it is up again, and when it is up
   * again. So an app that alternates between two failures does not fill the log.
   */
  readonly onChange: (status: UpstreamStatus) => void;
}

/** How often an app that is down is probed, in ms. */
const PROBE_INTERVAL_MS = 1_000;
/** One check may fail by chance: a garbage collection, a full queue. */
const FAILURES_UNTIL_DOWN = 2;

const REFUSED = 'connection refused';

type State =
  /** `failures`: the number of failed checks in a row. */
  | { readonly kind: 'up'; readonly failures: number }
  | {
      readonly kind: 'down';
      readonly reason: string;
      readonly sinceMs: number;
      /** The reasons that were reported since it went down. */
      readonly reportedReasons: ReadonlySet<string>;
    };

const UP: State = { kind: 'up', failures: 0 };

export function createUpstreamHealth(options: UpstreamHealthOptions): UpstreamHealth {
  return new WatchedUpstream(options);
}

class WatchedUpstream implements UpstreamHealth {
  readonly #options: UpstreamHealthOptions;
  readonly #stopped = new AbortController();
  #state: State = UP;
  #cancelNext: Cancel | undefined;
  #probing: Promise<void> | undefined;

  constructor(options: UpstreamHealthOptions) {
    this.#options = options;
  }

  isUp(): boolean {
    return this.#state.kind === 'up';
  }

  status(): UpstreamStatus {
    const state = this.#state;
    if (state.kind === 'up') return { state: 'up' };
    const { reason, sinceMs } = state;
    const forMs = Math.round(this.#options.clock.monotonicMs() - sinceMs);
    return { state: 'down', reason, forMs };
  }

  start(): void {
    if (this.#options.check) this.#probe();
  }

  noteRefused(): void {
    if (this.#stopped.signal.aborted || this.#state.kind === 'down') return;
    this.#goDown(REFUSED);
    this.#scheduleNext();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#cancelNext?.();
    await this.#probing;
  }

  #probe(): void {
    const { check, connect } = this.#options;
    const { signal } = this.#stopped;
    if (signal.aborted || this.#probing) return;
    const probe = check?.probe ?? connect;
    const stateBefore = this.#state;
    this.#probing = probe(signal).then((outcome) => {
      this.#probing = undefined;
      if (signal.aborted) return;
      // A probe result from before a refused request is out of date.
      if (this.#state === stateBefore) this.#applyOutcome(outcome);
      this.#scheduleNext();
    });
  }

  #applyOutcome(outcome: ProbeOutcome): void {
    const state = this.#state;
    if (outcome.kind === 'passed') {
      this.#state = UP;
      if (state.kind === 'down') this.#options.onChange(this.status());
    } else if (state.kind === 'down') {
      this.#stayDown(state, outcome.reason);
    } else if (state.failures + 1 < FAILURES_UNTIL_DOWN) {
      this.#state = { kind: 'up', failures: state.failures + 1 };
    } else {
      this.#goDown(outcome.reason);
    }
  }

  #goDown(reason: string): void {
    const sinceMs = this.#options.clock.monotonicMs();
    this.#state = { kind: 'down', reason, sinceMs, reportedReasons: new Set([reason]) };
    this.#options.onChange(this.status());
  }

  #stayDown(state: State & { kind: 'down' }, reason: string): void {
    const reportedReasons = new Set([...state.reportedReasons, reason]);
    this.#state = { ...state, reason, reportedReasons };
    if (!state.reportedReasons.has(reason)) this.#options.onChange(this.status());
  }

  /** Replaces an earlier schedule. The end of a running probe schedules the next itself. */
  #scheduleNext(): void {
    this.#cancelNext?.();
    const waitMs = this.#msUntilNext();
    this.#cancelNext =
      waitMs === undefined ? undefined : this.#options.clock.after(waitMs, () => this.#probe());
  }

  #msUntilNext(): number | undefined {
    const intervalMs = this.#options.check?.intervalMs;
    if (this.#state.kind === 'up') return intervalMs;
    return Math.min(PROBE_INTERVAL_MS, intervalMs ?? PROBE_INTERVAL_MS);
  }
}

export type ProbeOutcome =
  { readonly kind: 'passed' } | { readonly kind: 'failed'; readonly reason: string };

/** Probes once. Never rejects; leaves nothing open, and ends at once when the signal aborts. */
export type Probe = (signal: AbortSignal) => Promise<ProbeOutcome>;

interface ProbeOptions {
  /** An http: origin. */
  readonly origin: URL;
  readonly clock: Clock;
}

/** An app that takes longer than this counts as down, in ms. */
export const PROBE_TIMEOUT_MS = 2_000;

const PASSED: ProbeOutcome = { kind: 'passed' };

/** Passes if the connection succeeds. */
export function createConnectProbe({ origin, clock }: ProbeOptions): Probe {
  const address = { host: hostOf(origin), port: portOf(origin) };
  return (signal) =>
    inTime(clock, signal, (finish) => {
      const socket = connect(address);
      socket.once('connect', () => finish(PASSED));
      socket.on('error', (error) => finish(failure(error)));
      return () => socket.destroy();
    });
}

/**
 * Passes if a GET of `path` returns 2xx. It follows no redirect and reads no body. The check resembles a
 * user's request, because apps redirect http to https and reject hosts that are not theirs.
 */
export function createCheckProbe(
  { origin, clock }: ProbeOptions,
  path: string,
  checkHost: string = origin.host,
): Probe {
  // The URL as the app sees it. Undefined if the host is not valid in a URL.
  const requestedUrl = URL.canParse(path, `https://${checkHost}`)
    ? new URL(path, `https://${checkHost}`)
    : undefined;
  const options = {
    ...{ host: hostOf(origin), port: portOf(origin), path, agent: false },
    headers: { host: checkHost, 'user-agent': 'fly-affinity', 'x-forwarded-proto': 'https' },
  };
  return (signal) =>
    inTime(clock, signal, (finish) => {
      const sent = request(options);
      sent.once('response', (response) => {
        const { statusCode = 0, headers } = response;
        response.on('error', () => undefined);
        finish(outcomeOf(statusCode, headers.location, requestedUrl));
      });
      // A 101 is not valid here: the check did not request an upgrade.
      sent.on('upgrade', () => finish({ kind: 'failed', reason: 'the check returned 101' }));
      sent.on('error', (error) => finish(failure(error)));
      sent.end();
      return () => sent.destroy();
    });
}

function outcomeOf(
  status: number,
  location: string | undefined,
  requestedUrl: URL | undefined,
): ProbeOutcome {
  if (status >= 200 && status < 300) return PASSED;
  const isRedirect = status >= 300 && status < 400;
  const returned = `the check returned ${status}`;
  return {
    kind: 'failed',
    reason: isRedirect ? `${returned}${leadOf(location, requestedUrl)}${NOT_FOLLOWED}` : returned,
  };
}

/** Fly.io's own checks do not follow them either. */
const NOT_FOLLOWED =
  '; redirects are not followed: set UPSTREAM_CHECK_PATH to a path that returns 2xx, or UPSTREAM_CHECK_HOST to a host that the app serves';

/** Which parts of the redirect differ from the request; never their values, as a URL may hold secrets. */
function leadOf(location: string | undefined, requestedUrl: URL | undefined): string {
  if (location === undefined || !requestedUrl || !URL.canParse(location, requestedUrl.href))
    return '';
  const target = new URL(location, requestedUrl.href);
  const others = [
    ...(target.protocol === requestedUrl.protocol ? [] : ['scheme']),
    ...(target.host === requestedUrl.host ? [] : ['host']),
    ...(target.pathname === requestedUrl.pathname ? [] : ['path']),
  ];
  return others.length === 0 ? ' to the same URL' : ` to another ${others.join(' and ')}`;
}

type Finish = (outcome: ProbeOutcome) => void;

/** `begin` returns a function that ends it in any case. */
function inTime(
  clock: Clock,
  signal: AbortSignal,
  begin: (finish: Finish) => () => void,
): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const finish: Finish = (outcome) => {
      cancel();
      signal.removeEventListener('abort', onAbort);
      end();
      resolve(outcome);
    };
    const onAbort = (): void => finish({ kind: 'failed', reason: 'the probe was aborted' });
    const reason = `no response within ${PROBE_TIMEOUT_MS} ms`;
    const cancel = clock.after(PROBE_TIMEOUT_MS, () => finish({ kind: 'failed', reason }));
    signal.addEventListener('abort', onAbort);
    const end = begin(finish);
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
};

/** Other errors come from the parser, and their text may quote the response. */
function failure({ code = '' }: NodeJS.ErrnoException): ProbeOutcome {
  const isOfSocket = /^E[A-Z]+$/.test(code);
  const reason = REASONS[code] ?? (isOfSocket ? code : 'the response is not valid HTTP');
  return { kind: 'failed', reason };
}

/** An IPv6 address has brackets only in a URL. */
function hostOf({ hostname }: URL): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}

function portOf({ port }: URL): number {
  return port === '' ? 80 : Number(port);
}

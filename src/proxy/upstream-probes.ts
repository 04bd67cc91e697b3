/** The two ways to ask the app whether it is there: to connect, and to GET a path of it. */
import { connect } from 'node:net';
import type { Clock } from '../clock.ts';
import { request } from '../http/node-http.ts';

export type ProbeOutcome =
  { readonly kind: 'passed' } | { readonly kind: 'failed'; readonly reason: string };

/** Asks once. Never rejects; leaves nothing open, and ends at once when the signal aborts. */
export type Probe = (signal: AbortSignal) => Promise<ProbeOutcome>;

export interface ProbeOptions {
  /** An http: origin. */
  readonly origin: URL;
  readonly clock: Clock;
}

/** An app that takes longer than this to say that it is well is not, in ms. */
export const PROBE_TIMEOUT_MS = 2_000;

const PASSED: ProbeOutcome = { kind: 'passed' };

/** Passes if somebody listens. */
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
 * Passes if a GET of `path` returns 2xx. It follows no redirect and reads no body. The check looks like
 * a request of a user: apps redirect what is not https, and refuse hosts that are not theirs.
 */
export function createCheckProbe(
  { origin, clock }: ProbeOptions,
  path: string,
  checkHost: string = origin.host,
): Probe {
  // The URL that the app believes it is asked for. Undefined: the host is none that a URL may have.
  const askedFor = URL.canParse(path, `https://${checkHost}`)
    ? new URL(path, `https://${checkHost}`)
    : undefined;
  const options = {
    ...{ host: hostOf(origin), port: portOf(origin), path, agent: false },
    headers: {
      host: checkHost,
      'user-agent': 'fly-affinity',
      'x-forwarded-proto': 'https',
    },
  };
  return (signal) =>
    inTime(clock, signal, (finish) => {
      const asked = request(options);
      asked.once('response', (response) => {
        const { statusCode = 0, headers } = response;
        response.on('error', () => undefined);
        finish(outcomeOf(statusCode, headers.location, askedFor));
      });
      // A switch of protocols that the check did not ask for is no valid response.
      asked.on('upgrade', () => finish({ kind: 'failed', reason: 'the check returned 101' }));
      asked.on('error', (error) => finish(failure(error)));
      asked.end();
      return () => asked.destroy();
    });
}

function outcomeOf(
  status: number,
  location: string | undefined,
  askedFor: URL | undefined,
): ProbeOutcome {
  if (status >= 200 && status < 300) return PASSED;
  const isRedirect = status >= 300 && status < 400;
  const returned = `the check returned ${status}`;
  return {
    kind: 'failed',
    reason: isRedirect ? `${returned}${leadOf(location, askedFor)}${NOT_FOLLOWED}` : returned,
  };
}

/** Fly.io's own checks do not follow them either. */
const NOT_FOLLOWED =
  '; redirects are not followed: set UPSTREAM_CHECK_PATH to a path that returns 2xx, or UPSTREAM_CHECK_HOST to a host that the app serves';

/** In what the target differs from what was asked for, and no more: a URL may carry secrets. */
function leadOf(location: string | undefined, askedFor: URL | undefined): string {
  if (location === undefined || !askedFor || !URL.canParse(location, askedFor.href)) return '';
  const target = new URL(location, askedFor.href);
  const others = [
    ...(target.protocol === askedFor.protocol ? [] : ['scheme']),
    ...(target.host === askedFor.host ? [] : ['host']),
    ...(target.pathname === askedFor.pathname ? [] : ['path']),
  ];
  return others.length === 0 ? ' to the same URL' : ` to another ${others.join(' and ')}`;
}

type Finish = (outcome: ProbeOutcome) => void;

/** `begin` returns what ends it, whatever has come of it. */
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

/** What is no error of a socket is one of the parser, and its text may quote the response. */
function failure({ code = '' }: NodeJS.ErrnoException): ProbeOutcome {
  const isOfSocket = /^E[A-Z]+$/.test(code);
  const reason = REASONS[code] ?? (isOfSocket ? code : 'the response is not valid HTTP');
  return { kind: 'failed', reason };
}

/** An IPv6 address stands in brackets in a URL only. */
function hostOf({ hostname }: URL): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}

function portOf({ port }: URL): number {
  return port === '' ? 80 : Number(port);
}

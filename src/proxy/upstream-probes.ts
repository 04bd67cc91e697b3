/** The two probes of the app: connect, and GET a path. */
import { connect } from 'node:net';
import type { Clock } from '../clock.ts';
import { request } from '../http/node-http.ts';

export type ProbeOutcome =
  { readonly kind: 'passed' } | { readonly kind: 'failed'; readonly reason: string };

/** Probes once. Never rejects; leaves nothing open, and ends at once when the signal aborts. */
export type Probe = (signal: AbortSignal) => Promise<ProbeOutcome>;

export interface ProbeOptions {
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
    headers: {
      host: checkHost,
      'user-agent': 'fly-affinity',
      'x-forwarded-proto': 'https',
    },
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

/** Checks the sidecar on this Machine: whether it runs, and what its readiness endpoint reports. */
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { sendProbe } from './probe.ts';
import { type Finding, error, note, ok, warning } from './report.ts';

export type SidecarFacts =
  | { readonly kind: 'port-unknown' }
  | { readonly kind: 'not-running' }
  | { readonly kind: 'no-response'; readonly code: string }
  | { readonly kind: 'not-a-sidecar'; readonly status: number }
  | {
      readonly kind: 'running';
      readonly isReady: boolean;
      readonly reason: string | undefined;
      readonly store: { readonly state: string | undefined; readonly reason: string | undefined };
      readonly fleet: string | undefined;
      /** The status of the app, as the sidecar reports it. */
      readonly upstream: {
        readonly state: string | undefined;
        readonly reason: string | undefined;
      };
    };

export function checkSidecar(facts: SidecarFacts, adminPort: number): Finding[] {
  switch (facts.kind) {
    case 'port-unknown':
      return [
        note(
          'Could not determine whether a sidecar runs.',
          'ADMIN_PORT is 0, so the sidecar listens on a random free port.',
        ),
      ];
    case 'not-running':
      return [
        warning(
          `No sidecar runs here: nothing listens on ADMIN_PORT (${adminPort}).`,
          'This Machine serves no request from Fly Proxy.',
          'start fly-affinity serve, or fly-affinity run -- CMD ARGS',
        ),
      ];
    case 'no-response':
      return [
        error(
          `The listener on ADMIN_PORT (${adminPort}) does not respond (${facts.code}).`,
          'A sidecar that hangs serves no requests.',
          'read the log of the Machine, and restart it',
        ),
      ];
    case 'not-a-sidecar':
      return [
        error(
          `Another program listens on ADMIN_PORT (${adminPort}); it returned status ${facts.status}.`,
          'The sidecar cannot listen on that port, and does not start.',
          'set ADMIN_PORT to a free port',
        ),
      ];
    case 'running':
      return checkReadiness(facts);
  }
}

function checkReadiness(facts: Extract<SidecarFacts, { kind: 'running' }>): Finding[] {
  const { isReady, reason, store, fleet, upstream } = facts;
  const readiness = isReady
    ? ok('The sidecar is running and ready.')
    : warning(
        `The sidecar is not ready (${reason ?? 'no reason reported'}).`,
        'It serves only sessions that it owns; new sessions go to other Machines.',
      );
  const findings: Finding[] = [readiness];
  if (store.state !== undefined && store.state !== 'healthy') {
    findings.push(
      warning(
        `The store of the sidecar is ${store.state}${store.reason === undefined ? '' : `: ${store.reason}`}.`,
        'The sidecar keeps changes in memory until the store recovers; a restart may lose them.',
      ),
    );
  }
  if (upstream.state === 'down') {
    findings.push(
      warning(
        `The sidecar reports that the app is down${upstream.reason === undefined ? '' : `: ${upstream.reason}`}.`,
        'New sessions go to other Machines until the app recovers.',
        'check the app, and UPSTREAM_CHECK_PATH',
      ),
    );
  }
  if (fleet === 'failing') {
    findings.push(
      warning(
        'The sidecar cannot read the list of Machines.',
        'It uses the last list, and treats no owner as gone.',
      ),
    );
  }
  return findings;
}

/** Never rejects. */
export async function probeSidecar(
  { host, adminPort, adminToken: token }: Pick<Config, 'host' | 'adminPort' | 'adminToken'>,
  clock: Clock,
): Promise<SidecarFacts> {
  if (adminPort === 0) return { kind: 'port-unknown' };
  const response = await sendProbe(
    { host: dialableHost(host), port: adminPort, path: '/readyz', token },
    clock,
  );
  if (response.kind === 'failed') {
    const { code } = response;
    return code === 'ECONNREFUSED' ? { kind: 'not-running' } : { kind: 'no-response', code };
  }
  const readiness = parseRecord(response.body);
  const isReadiness = response.status === 200 || response.status === 503;
  if (!isReadiness || typeof readiness.ready !== 'boolean') {
    return { kind: 'not-a-sidecar', status: response.status };
  }
  return {
    kind: 'running',
    isReady: readiness.ready,
    reason: textIn(readiness.reason),
    store: statusIn(readiness.store),
    fleet: textIn(recordIn(readiness.fleet).kind),
    upstream: statusIn(readiness.upstream),
  };
}

/** A wildcard address cannot be dialed; loopback reaches the same listener. */
function dialableHost(host: string): string {
  return host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host;
}

type Fields = Readonly<Record<string, unknown>>;

function parseRecord(text: string): Fields {
  try {
    return recordIn(JSON.parse(text));
  } catch {
    // Not JSON: the caller then reports another program.
    return {};
  }
}

function recordIn(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function statusIn(value: unknown): Record<'state' | 'reason', string | undefined> {
  const { state, reason } = recordIn(value);
  return { state: textIn(state), reason: textIn(reason) };
}

/** Undefined for text that a sidecar would not send: the finding goes to a terminal. */
function textIn(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\x20-\x7e]{1,500}$/.test(value) ? value : undefined;
}
